//! User and group names of a container, looked up in its own `/etc/passwd` and `/etc/group`, beneath its root.
//!
//! Never the host's name service: nothing of the container's may be loaded into this process (CVE-2019-14271), and the
//! host's names mean nothing inside. The files are hostile: they may be links, pipes or endless (CVE-2025-4437,
//! CVE-2024-9676).

use std::os::fd::{AsFd, BorrowedFd};

use kernel::beneath::{self, Limits};
use kernel::error::Error as SystemCall;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{During, Error, Result};

/// Largest file that is read; more than any real system has.
const MAXIMUM_SIZE: u64 = 10 << 20;
/// Largest id: one more is negative for many programs (CVE-2024-40635).
const MAXIMUM_ID: u32 = i32::MAX.cast_unsigned();

/// Who a process is to be, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, without repetition.
    pub groups: Vec<u32>,
    /// Home directory from the passwd file, `/` when there is no entry.
    pub home: Option<String>,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Finds `user`, `user:group`, numbers in place of names, or nothing (root), as Docker does: a number is always that
/// number and never a name (CVE-2016-3697); without a group it is the user's own, and the supplementary groups are those
/// that list the user. `additional` are groups beside them, names or numbers. The user's own group is the first of them: a
/// process that is in no list of groups could give its own up and pass by a file that denies it something (CVE-2022-36109).
///
/// # Errors
/// [`Error::Refused`] for a name that the files do not have, an id above 2147483647, or a file that is none or too large.
pub fn resolve(root: BorrowedFd<'_>, user: &str, additional: &[String]) -> Result<User> {
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let passwd = read(root, "/etc/passwd")?;
    let account = find_account(&passwd, user)?;
    let groups_text = read(root, "/etc/group")?;
    let mut result = account;
    match group {
        Some(group) => result.1 = find_group(&groups_text, group)?,
        // Only with the user's own group do the file's memberships count, as in Docker.
        None => {
            if let Some(name) = &result.3 {
                result.2 = groups(&groups_text)
                    .filter(|each| each.members.split(',').any(|member| member == name))
                    .map(|each| each.gid)
                    .collect();
            }
        }
    }
    let (uid, gid, mut supplementary, _, home) = result;
    for each in additional {
        supplementary.push(find_group(&groups_text, each)?);
    }
    let mut groups: Vec<u32> = Vec::with_capacity(supplementary.len() + 1);
    for each in std::iter::once(gid).chain(supplementary) {
        if !groups.contains(&each) {
            groups.push(each);
        }
    }
    Ok(User { uid, gid, groups, home: Some(home) })
}

/// The home directory of a user by number: `/` when the passwd file does not say, or is none that can be read.
pub(crate) fn home_of(root: BorrowedFd<'_>, uid: u32) -> String {
    let passwd = read(root, "/etc/passwd").unwrap_or_default();
    let home = accounts(&passwd).find(|each| each.uid == uid).map_or("", |each| each.home);
    if home.is_empty() { "/" } else { home }.to_owned()
}

/// uid, gid, supplementary groups, name if there is an entry, home.
type Found = (u32, u32, Vec<u32>, Option<String>, String);

fn find_account(passwd: &str, user: &str) -> Result<Found> {
    let user = if user.is_empty() { "0" } else { user };
    let number = number(user)?;
    let entry = accounts(passwd).find(|each| match number {
        Some(number) => each.uid == number,
        None => each.name == user,
    });
    match (entry, number) {
        (Some(entry), _) => {
            let home = if entry.home.is_empty() { "/" } else { entry.home };
            Ok((entry.uid, entry.gid, Vec::new(), Some(entry.name.to_owned()), home.to_owned()))
        }
        (None, Some(number)) => Ok((number, 0, Vec::new(), None, "/".to_owned())),
        (None, None) => Err(Error::Refused(format!("unable to find user {user}: no matching entries in passwd file"))),
    }
}

fn find_group(text: &str, group: &str) -> Result<u32> {
    if let Some(number) = number(group)? {
        return Ok(number);
    }
    match groups(text).find(|each| each.name == group) {
        Some(entry) => Ok(entry.gid),
        None => Err(Error::Refused(format!("unable to find group {group}: no matching entries in group file"))),
    }
}

/// A string of digits is a number, whatever names there are.
fn number(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= MAXIMUM_ID => Ok(Some(number)),
        _ => Err(Error::Refused(format!("id {text} is not from 0 to {MAXIMUM_ID}"))),
    }
}

fn accounts(text: &str) -> impl Iterator<Item = Account<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        (!name.is_empty() && uid <= MAXIMUM_ID && gid <= MAXIMUM_ID).then_some(Account { name, uid, gid, home })
    })
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default();
        (!name.is_empty() && gid <= MAXIMUM_ID).then_some(Group { name, gid, members })
    })
}

/// The file's text; empty when there is none. Opened without waiting, so that a pipe does not hold the start up.
fn read(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let step = || format!("read {path} of the container");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match beneath::open(root, path, flags, Mode::empty(), Limits::default()) {
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        other => other.during(step)?,
    };
    let status =
        rustix::fs::fstat(&file).map_err(|errno| SystemCall::new(format!("fstat({path:?})"), errno)).during(step)?;
    let size = status.st_size.cast_unsigned();
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Error::Refused(format!("{path} of the container is no regular file")));
    }
    if size > MAXIMUM_SIZE {
        return Err(Error::Refused(format!("{path} of the container has {size} bytes, more than {MAXIMUM_SIZE}")));
    }
    let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut length = 0;
    while length < text.len() {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(file.as_fd(), &mut text[length..]))
            .map_err(|errno| SystemCall::new(format!("read({path:?})"), errno))
            .during(step)?;
        if read == 0 {
            break;
        }
        length += read;
    }
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    struct Root(std::path::PathBuf);

    impl Root {
        fn new(name: &str, passwd: &str, group: &str) -> Self {
            let path = std::env::temp_dir().join(format!("dhow-users-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("etc")).unwrap();
            std::fs::write(path.join("etc/passwd"), passwd).unwrap();
            std::fs::write(path.join("etc/group"), group).unwrap();
            Self(path)
        }

        fn fd(&self) -> OwnedFd {
            rustix::fs::open(&self.0, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
        }

        fn find(&self, user: &str) -> Result<User> {
            resolve(self.fd().as_fd(), user, &[])
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0:trap:/trap:/bin/sh\nredis:x:999:998::/data:/bin/sh\n";
    const GROUP: &str = "root:x:0:root\nredis:x:998:\ntape:x:26:redis,root\n1001:x:0:\n";

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let root = Root::new("find", PASSWD, GROUP);
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: Some(home.to_owned()),
        };
        assert_eq!(root.find("").unwrap(), user(0, 0, &[0, 26], "/root"));
        assert_eq!(root.find("redis").unwrap(), user(999, 998, &[998, 26], "/data"));
        assert_eq!(root.find("redis:tape").unwrap(), user(999, 26, &[26], "/data"));
        assert_eq!(root.find("999").unwrap(), user(999, 998, &[998, 26], "/data"));
        assert_eq!(root.find("5:6").unwrap(), user(5, 6, &[6], "/"));
        // CVE-2016-3697: digits are a number although the image has an account of that name.
        assert_eq!(root.find("1000").unwrap(), user(1000, 0, &[0], "/"));
        assert_eq!(root.find("5:1001").unwrap().gid, 1001);
        let more = resolve(root.fd().as_fd(), "redis", &["tape".to_owned(), "7".to_owned()]).unwrap();
        assert_eq!(more.groups, [998, 26, 7]);
    }

    #[test]
    fn wrong_users_are_refused() {
        let root = Root::new("wrong", PASSWD, GROUP);
        // CVE-2024-40635.
        for id in ["2147483648", "4294967295", "4294967296", "-1", "0:2147483648"] {
            assert!(root.find(id).is_err(), "{id}");
        }
        let error = root.find("nobody").unwrap_err().to_string();
        assert_eq!(error, "unable to find user nobody: no matching entries in passwd file");
        assert!(root.find("redis:nobody").unwrap_err().to_string().contains("group nobody"));
    }

    #[test]
    fn hostile_files_neither_hang_nor_fill_the_memory() {
        let root = Root::new("hostile", "", "");
        let passwd = root.0.join("etc/passwd");
        let file = std::fs::File::create(&passwd).unwrap();
        file.set_len(10 << 30).unwrap();
        assert!(root.find("0").unwrap_err().to_string().contains("more than"));
        std::fs::remove_file(&passwd).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, Mode::from_raw_mode(0o644)).unwrap();
        assert!(root.find("0").unwrap_err().to_string().contains("no regular file"));
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", &passwd).unwrap();
        assert_eq!(root.find("0").unwrap().uid, 0);
    }
}
