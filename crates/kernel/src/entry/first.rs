//! The entry point, and the execution from a file that cannot be written.

use std::arch::{asm, global_asm};
use std::ffi::CStr;

use linux_raw_sys::general::{
    AT_EMPTY_PATH, AT_FDCWD, MAP_ANONYMOUS, MAP_PRIVATE, MOUNT_ATTR_RDONLY, O_CLOEXEC, OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE, PROT_READ, PROT_WRITE, mount_attr,
};

use super::words::Words;

// The stack pointer is all that the kernel hands over, and %rdx, which `_start` takes for a function to call at the end (0 here). Both
// are as they were when the C library's start has its turn.
global_asm!(
    ".globl dhow_entry",
    ".type dhow_entry, @function",
    "dhow_entry:",
    ".cfi_startproc",
    ".cfi_undefined rip",
    "mov rbx, rdx",
    "mov r12, rsp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {before}",
    "mov rsp, r12",
    "mov rdx, rbx",
    "jmp _start",
    ".cfi_endproc",
    ".size dhow_entry, . - dhow_entry",
    before = sym before_the_c_library,
);

/// Returns where the program is to go on as any other.
///
/// # Safety
/// For the entry point only.
unsafe extern "C" fn before_the_c_library(stack: *const usize) {
    // SAFETY: it is the stack that the kernel has made; upheld by the caller.
    let words = unsafe { Words::at(stack) };
    if words.are_of_a_runtime() {
        execute_sealed(&words);
    }
}

/// As [`crate::exe::sealed_self`] does, and by the same calls: the program's file, seen through a read-only mount that is attached
/// nowhere. Returns on any failure, with nothing left open.
fn execute_sealed(words: &Words) {
    let clone = (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) as usize;
    let tree = call(libc::SYS_open_tree, HERE, address(c"/proc/self/exe"), clone, 0, 0);
    if tree < 0 {
        return;
    }
    let change = mount_attr { attr_set: u64::from(MOUNT_ATTR_RDONLY), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let (of_change, size) = ((&raw const change) as usize, size_of::<mount_attr>());
    let mount = tree as usize;
    if call(libc::SYS_mount_setattr, mount, address(c""), AT_EMPTY_PATH as usize, of_change, size) == 0 {
        execute_through(words, mount);
    }
    close(mount);
}

/// `AT_FDCWD`: paths are relative to the working directory, or absolute as here.
const HERE: usize = AT_FDCWD as usize;

/// Executes the file that is seen through this mount, with one variable more. Returns on failure.
fn execute_through(words: &Words, mount: usize) {
    let count = words.variables();
    let size = (count + 2) * size_of::<usize>() + PATH_SIZE;
    let (protection, kind) = ((PROT_READ | PROT_WRITE) as usize, (MAP_PRIVATE | MAP_ANONYMOUS) as usize);
    // At address 0 it is wherever there is room; the sixth argument, an offset, means nothing then.
    let memory = call(libc::SYS_mmap, 0, size, protection, kind, usize::MAX);
    if memory < 0 {
        return;
    }
    let memory = memory as usize;
    let environment = memory as *mut *const u8;
    let mut position = 0;
    while position < count {
        // SAFETY: the mapping has room for `count` addresses, two more, and a path; the environment has `count`.
        unsafe { environment.add(position).write_volatile(words.variable(position)) };
        position += 1;
    }
    // SAFETY: as above; the mapping is zero behind this, so that a null ends it.
    unsafe { environment.add(count).write_volatile(c"_DHOW_OCI_SEALED=1".as_ptr().cast()) };
    let end = memory + size;
    // Through the mount, as the descriptor of the mount itself leads to one that could be made writable again.
    let file = call(libc::SYS_openat, HERE, path_of(mount, end), O_CLOEXEC as usize, 0, 0);
    if file >= 0 {
        let file = file as usize;
        call(libc::SYS_execve, path_of(file, end), words.arguments() as usize, memory, 0, 0);
        close(file);
    }
    call(libc::SYS_munmap, memory, size, 0, 0, 0);
}

/// The directory, twenty digits at most, and a zero.
const PATH_SIZE: usize = 40;

/// Writes `/proc/self/fd/N` so that its final zero is the last byte before `end`, and gives its address.
///
/// There must be [`PATH_SIZE`] bytes before `end`.
fn path_of(descriptor: usize, end: usize) -> usize {
    let mut place = end;
    let mut put = |byte: u8| {
        place -= 1;
        // SAFETY: within the bytes before `end`; upheld by the callers. Volatile, or a loop becomes a call of memcpy(3).
        unsafe { (place as *mut u8).write_volatile(byte) };
    };
    put(0);
    let mut rest = descriptor;
    loop {
        put(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let directory = b"/proc/self/fd/";
    let mut left = directory.len();
    while left > 0 {
        left -= 1;
        put(directory[left]);
    }
    place
}

fn address(text: &CStr) -> usize {
    text.as_ptr() as usize
}

/// It fails only for a descriptor that is not open.
fn close(descriptor: usize) {
    call(libc::SYS_close, descriptor, 0, 0, 0, 0);
}

/// A system call of up to five arguments; a negative number is an error. No array of them, which would be copied by memcpy(3).
fn call(number: libc::c_long, one: usize, two: usize, three: usize, four: usize, five: usize) -> isize {
    let result;
    // SAFETY: the calling convention of Linux on x86-64 (syscall(2)). The calls of this file read and write what their arguments point to,
    // all of which lives over the call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") one, in("rsi") two, in("rdx") three, in("r10") four, in("r8") five, in("r9") 0usize,
            lateout("rcx") _, lateout("r11") _, options(nostack),
        );
    }
    result
}
