//! Answers: documents, nothing, and streams that come piece by piece.

use crate::failure::Failure;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A whole answer.
pub type Reply = Response<Content>;

/// The content of an answer.
#[derive(Debug)]
pub enum Content {
    /// Known, and given once.
    Whole(Option<Bytes>),
    /// What comes, as it comes. Its sender learns of a client that has gone when sending fails.
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Stream(receiver) => receiver.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

/// An answer of one media type.
pub fn text(status: StatusCode, media_type: &'static str, content: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Content::Whole(Some(content.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// A document.
///
/// # Errors
/// 500 for what cannot be written as JSON.
pub fn json(status: StatusCode, document: &impl Serialize) -> Result<Reply, Failure> {
    Ok(text(status, "application/json", written(document)?))
}

/// The bytes of a document, with the newline that Docker's encoder leaves behind it.
///
/// # Errors
/// As [`json`].
pub fn written(document: &impl Serialize) -> Result<Bytes, Failure> {
    let mut content = Vec::with_capacity(WRITTEN);
    serde_json::to_writer(&mut content, document).map_err(unwritable)?;
    content.push(b'\n');
    Ok(content.into())
}

/// Bytes that most documents need at most.
const WRITTEN: usize = 4 << 10;

/// 500: what should be an answer is none.
pub fn unwritable(error: serde_json::Error) -> Failure {
    Failure::internal(format!("the answer cannot be written as JSON: {error}"))
}

/// A document that has been written, status 200.
pub fn document(content: Bytes) -> Reply {
    text(StatusCode::OK, "application/json", content)
}

/// A long array, written element by element.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// One more element.
    ///
    /// # Errors
    /// 500 for what cannot be written as JSON.
    pub fn add(&mut self, element: &impl Serialize) -> Result<(), Failure> {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        serde_json::to_writer(&mut self.0, element).map_err(unwritable)
    }

    /// The whole array, with the newline that Docker's encoder leaves behind it.
    pub fn end(mut self) -> Bytes {
        if self.0.is_empty() {
            self.0.push(b'[');
        }
        self.0.extend_from_slice(b"]\n");
        // Nobody adds to it any more, and it may wait for a slow client.
        self.0.shrink_to_fit();
        self.0.into()
    }
}

/// A document, status 200.
///
/// # Errors
/// As [`json`].
pub fn ok(document: &impl Serialize) -> Result<Reply, Failure> {
    json(StatusCode::OK, document)
}

/// Nothing but a status.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Content::Whole(None));
    *reply.status_mut() = status;
    reply
}

/// Pieces that are on their way to a client: so many, and the sender waits.
const PIECES: usize = 4;

/// A stream of one media type, and where its pieces are put. The headers are sent at once.
pub fn stream(media_type: &'static str) -> (mpsc::Sender<Bytes>, Reply) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let mut reply = Response::new(Content::Stream(receiver));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    (sender, reply)
}

/// `{"message": …}` with the failure's status. 304 has no content.
pub fn failure(failure: &Failure) -> Reply {
    if failure.status == StatusCode::NOT_MODIFIED {
        return empty(failure.status);
    }
    let document = serde_json::json!({ "message": failure.message });
    text(failure.status, "application/json", format!("{document}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_an_array() {
        assert_eq!(Lines::default().end(), "[]\n");
        let mut lines = Lines::default();
        lines.add(&1).unwrap();
        lines.add(&"two").unwrap();
        assert_eq!(lines.end(), "[1,\"two\"]\n");
    }
}
