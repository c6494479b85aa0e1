//! Archives between the event loop and a thread that works on them: a pipe, so that neither keeps more than the kernel does.

use crate::content::Content;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use rustix::pipe::PipeFlags;
use std::fs::File;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failure::internal(format!("pipe2(O_CLOEXEC): {error}")))
}

fn without_blocking(fd: &OwnedFd) -> Result<(), Failure> {
    rustix::io::ioctl_fionbio(fd, true).map_err(|error| Failure::internal(format!("ioctl(FIONBIO): {error}")))
}

/// Where a thread writes, and where the event loop reads what it wrote.
///
/// # Errors
/// When there is no descriptor left.
pub fn out() -> Result<(File, pipe::Receiver), Failure> {
    let (reader, writer) = pair()?;
    without_blocking(&reader)?;
    Ok((writer.into(), pipe::Receiver::from_owned_fd(reader)?))
}

/// Bytes that are sent at once.
const CHUNK: usize = 64 << 10;

/// An answer whose content is what comes out of a pipe.
pub fn reply(media_type: &'static str, mut content: pipe::Receiver) -> Reply {
    let (sender, reply) = reply::stream(media_type);
    tokio::spawn(async move {
        loop {
            let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
            match content.read_buf(&mut chunk).await {
                // A thread that failed has closed its end; the archive then ends too soon, which its readers notice.
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    if sender.send(chunk.freeze()).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    reply
}

/// Where a thread reads a request's content, and the work of putting it there.
///
/// # Errors
/// When there is no descriptor left.
pub fn in_from(body: Content) -> Result<(File, impl Future<Output = ()>), Failure> {
    // Nobody waits for whom this is for, so it may take a year.
    in_within(body, Duration::from_secs(365 * 24 * 60 * 60))
}

/// The same from a client who is given up when nothing has come for so long: others wait meanwhile.
///
/// # Errors
/// When there is no descriptor left.
pub fn in_within<B>(mut body: B, patience: Duration) -> Result<(File, impl Future<Output = ()> + use<B>), Failure>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (reader, writer) = pair()?;
    without_blocking(&writer)?;
    let mut writer = pipe::Sender::from_owned_fd(writer)?;
    let feed = async move {
        // What cannot be read, or is no longer wanted, is an archive that ends too soon.
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(patience, body.frame()).await {
            if let Ok(data) = frame.into_data()
                && writer.write_all(&data).await.is_err()
            {
                return;
            }
        }
    };
    Ok((reader.into(), feed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::io::Read;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// A client that sends something, and then nothing, without going.
    struct Stuck(Option<Bytes>);

    impl Body for Stuck {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _waker: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => Poll::Pending,
            }
        }
    }

    #[test]
    fn who_sends_nothing_more_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut file, feed) = in_within(Stuck(Some("half".into())), Duration::from_millis(20)).unwrap();
            let reader = std::thread::spawn(move || {
                let mut all = String::new();
                file.read_to_string(&mut all).map(|_| all)
            });
            feed.await;
            assert_eq!(reader.join().unwrap().unwrap(), "half");
        });
    }
}
