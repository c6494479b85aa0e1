//! bpf(2) for programs of type `BPF_PROG_TYPE_CGROUP_DEVICE`: load, attach to a cgroup v2 directory, list, detach.
//!
//! Owns the system call and its argument structure. What the program does is the caller's business; the kernel's
//! verifier proves that it ends and touches nothing but its context. Linux 4.15; replacing in one step 5.6.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// One instruction: opcode, registers, offset and immediate value, as `struct bpf_insn` lays them out in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low, source register in the high half (little-endian layout of the bit fields).
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Immediate value.
    pub immediate: i32,
}

/// A program that the kernel did not accept.
#[derive(Debug, thiserror::Error)]
#[error("bpf(BPF_PROG_LOAD, {{BPF_PROG_TYPE_CGROUP_DEVICE, {count} instructions}}): {errno}")]
pub struct Rejected {
    /// How many instructions it had.
    pub count: usize,
    /// Why.
    pub errno: Errno,
    /// The verifier's words; empty if it was not asked.
    pub log: String,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`, up to `prog_name` (Linux 4.15).
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// For `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`; `replace_bpf_fd` is of Linux 5.6, and older kernels take a zero there.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Structures that the kernel accepts as `union bpf_attr`: plain integers, any pointers in them valid for the call.
trait Attribute {}
impl Attribute for Load {}
impl Attribute for Attach {}
impl Attribute for Query {}
impl Attribute for ById {}

fn bpf<T: Attribute>(command: libc::c_int, attribute: &mut T) -> Result<libc::c_int, Errno> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes of `attribute`, which is exclusively borrowed and a
    // `repr(C)` structure of integers (`Attribute`, private to this file). The addresses inside it were taken from
    // slices that the callers below keep borrowed over this call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), std::mem::size_of::<T>() as libc::c_uint)
    };
    match libc::c_int::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(last_errno()),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd().cast_unsigned()
}

fn load_once(program: &[Instruction], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    const LICENSE: &core::ffi::CStr = c"Apache-2.0";
    let mut name = [0u8; 16];
    name[..12].copy_from_slice(b"dhow_devices");
    let mut attribute = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| Errno::INVAL)?,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        prog_name: name,
        ..Load::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &mut attribute)?;
    // SAFETY: BPF_PROG_LOAD returned it just now, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a device program. The verifier is asked for its words only after it refused, since a log costs time.
///
/// # Errors
/// `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN`, `EINVAL` or `EACCES` for a program that the verifier refuses.
pub fn load_cgroup_device(program: &[Instruction]) -> Result<OwnedFd, Rejected> {
    match load_once(program, &mut []) {
        Ok(fd) => Ok(fd),
        Err(errno @ (Errno::INVAL | Errno::ACCESS)) => {
            let mut log = vec![0u8; 16 * 1024];
            match load_once(program, &mut log) {
                Ok(fd) => Ok(fd),
                Err(_) => {
                    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                    let log = String::from_utf8_lossy(&log[..end]).trim().to_owned();
                    Err(Rejected { count: program.len(), errno, log })
                }
            }
        }
        Err(errno) => Err(Rejected { count: program.len(), errno, log: String::new() }),
    }
}

/// Attaches a device program to the cgroup directory, beside those of ancestors (all of them must allow). With
/// `replaced`, that program goes in the same step, so that there is no moment without a rule.
///
/// # Errors
/// `EINVAL` for `replaced` before Linux 5.6, `EPERM` without privilege, `EBADF` if `cgroup` is no cgroup v2 directory.
pub fn attach_device(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attribute = Attach {
        target_fd: raw(cgroup),
        attach_bpf_fd: raw(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    if let Some(replaced) = replaced {
        attribute.attach_flags |= BPF_F_REPLACE;
        attribute.replace_bpf_fd = raw(replaced);
    }
    bpf(BPF_PROG_ATTACH, &mut attribute).map(|_| ())
}

/// Detaches a device program from the cgroup directory.
///
/// # Errors
/// `ENOENT` if it is not attached there.
pub fn detach_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attribute = Attach {
        target_fd: raw(cgroup),
        attach_bpf_fd: raw(program),
        attach_type: BPF_CGROUP_DEVICE,
        ..Attach::default()
    };
    bpf(BPF_PROG_DETACH, &mut attribute).map(|_| ())
}

/// The numbers of the device programs attached to this very directory (not to its ancestors); at most 64.
///
/// # Errors
/// `EPERM` without privilege, `EINVAL` before Linux 4.15.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = [0u32; 64];
    let mut attribute = Query {
        target_fd: raw(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &mut attribute)?;
    let count = usize::try_from(attribute.prog_cnt).unwrap_or(0).min(ids.len());
    Ok(ids[..count].to_vec())
}

/// The program with this number.
///
/// # Errors
/// `ENOENT` if it is gone, `EPERM` without `CAP_SYS_ADMIN`.
pub fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut ById { prog_id: id, ..ById::default() })?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned it just now, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether bpf(2) can be used for device programs by this process: loads the smallest one and drops it.
pub fn device_programs_usable() -> bool {
    // r0 = 1; exit
    let program = [
        Instruction { code: 0xb7, registers: 0, offset: 0, immediate: 1 },
        Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 },
    ];
    load_once(&program, &mut []).is_ok()
}
