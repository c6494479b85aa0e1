//! The crash harness: dhow's own processes are killed, or their system calls fail, at one point after another.
//!
//! [`tracer`] runs one command under ptrace(2) and hits one point; [`faults`] says which points there are and which errors a
//! call may answer with; [`verbs`] has the commands, and the state that each begins in; [`world`] looks at what is left.
//!
//! Each point is tried like this:
//!
//! ```text
//! bring the victim into the state that the command begins in
//! run the command; at the point: kill the process, kill all of dhow's, or let the call fail
//! look: the next command works · `system check` is clean · the bystander runs · nothing is left
//! bring the victim back, the same command without a fault: it succeeds
//! ```

pub mod faults;
pub mod tracer;
pub mod verbs;
pub mod world;
