//! A request's content, which is read to its end even where the answer is known before.
//!
//! A client that is still sending when its connection closes sees "broken pipe" and never reads why it was refused:
//! docker's command line does so with the archive of a `build`. dockerd reads on for the same reason.

use crate::parting::Parting;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long what nobody wants is read.
const PATIENCE: Duration = Duration::from_secs(10);

/// The content; what is left of it when this is dropped is read and thrown away, for ten seconds at most.
#[derive(Debug)]
pub struct Content(Option<Incoming>, Weak<Parting>);

impl Content {
    /// Takes a request's content; `parting` is told of its end.
    pub fn new(body: Incoming, parting: Weak<Parting>) -> Content {
        Content(Some(body), parting)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if let Some(parting) = self.1.upgrade() {
            parting.complete();
        }
        let Some(mut left) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // Without an event loop the server has ended, and the connection with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(PATIENCE, async move { while let Some(Ok(_)) = left.frame().await {} }));
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        waker: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *body).poll_frame(waker);
        if (matches!(frame, Poll::Ready(None)) || body.is_end_stream())
            && let Some(parting) = self.1.upgrade()
        {
            parting.complete();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
