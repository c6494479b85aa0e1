//! Why a request was not done, as a status and a sentence: the only place where a kind of failure becomes a status.

use engine::Kind;
use hyper::StatusCode;

/// A refusal or a failure.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP's word for it.
    pub status: StatusCode,
    /// One sentence, as Docker's clients show it.
    pub message: String,
}

impl Failure {
    /// Any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    /// 400: the request is malformed or contradictory.
    pub fn bad(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404.
    pub fn missing(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::CONFLICT, message)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 501: Docker can, dhow cannot yet.
    pub fn unsupported(what: &str) -> Failure {
        Failure::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not supported by dhow yet"))
    }
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        // A program that cannot be started is the request's fault, as with Docker.
        Kind::InvalidArgument | Kind::CommandNotFound | Kind::CommandNotExecutable => StatusCode::BAD_REQUEST,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Failure {
        let mut message = sentence(&error);
        if error.kind() == Kind::CommandNotExecutable && !message.contains("permission denied") {
            // The words by which Docker's clients tell exit status 126.
            message.push_str(": permission denied");
        }
        Failure::new(status(error.kind()), message)
    }
}

impl From<docker_json::Error> for Failure {
    fn from(error: docker_json::Error) -> Failure {
        Failure::internal(sentence(&error))
    }
}

impl From<monitor::Error> for Failure {
    fn from(error: monitor::Error) -> Failure {
        Failure::internal(sentence(&error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::internal(error.to_string())
    }
}

/// An error and its causes in one line.
pub fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
