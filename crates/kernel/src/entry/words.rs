//! What the kernel has put on the stack of a new program: number of arguments, their addresses, null, those of the environment, null
//! (System V ABI, AMD64 supplement, 3.4.1).
//!
//! Strings are read byte by byte and volatile: the compiler makes calls of `memcmp` and `strlen` of other loops, and these are reached through
//! addresses that only the C library's start fills in.

use super::SEALED;

/// The words of a new program, where the kernel has put them.
#[derive(Clone, Copy)]
pub(super) struct Words {
    count: usize,
    arguments: *const *const u8,
}

impl Words {
    /// # Safety
    /// `stack` must be the stack pointer with which the kernel has started the program, or something of that form.
    pub(super) unsafe fn at(stack: *const usize) -> Self {
        // SAFETY: the number of arguments is there, and their addresses follow; upheld by the caller.
        unsafe { Self { count: stack.read(), arguments: stack.add(1).cast() } }
    }

    /// The addresses of the arguments, for execve(2).
    pub(super) fn arguments(&self) -> *const *const u8 {
        self.arguments
    }

    /// How many variables the environment has.
    pub(super) fn variables(&self) -> usize {
        let mut count = 0;
        while !self.variable(count).is_null() {
            count += 1;
        }
        count
    }

    /// The address of a variable, or the null behind the last one.
    pub(super) fn variable(&self, position: usize) -> *const u8 {
        // SAFETY: behind the arguments stands a null, and then the environment; callers go no further than its null.
        unsafe { self.arguments.add(self.count + 1 + position).read_volatile() }
    }

    /// Whether this is the command line of an OCI runtime with a verb whose process comes into a container, for the first time. A
    /// container that has such a verb's name makes no difference but that the program is executed once more than it must be.
    pub(super) fn are_of_a_runtime(&self) -> bool {
        self.count > 1 && (self.name_a_runtime() || self.has(1, b"oci")) && self.have_a_verb() && !self.are_sealed()
    }

    /// No table of words: in a program that is moved at its start, the addresses in a table are not there yet.
    fn have_a_verb(&self) -> bool {
        let mut position = 1;
        while position < self.count {
            if self.has(position, b"create")
                || self.has(position, b"run")
                || self.has(position, b"exec")
                || self.has(position, b"restore")
            {
                return true;
            }
            position += 1;
        }
        false
    }

    /// Called as `runc` or `crun`, with or without a path.
    fn name_a_runtime(&self) -> bool {
        let path = self.argument(0);
        let mut name = 0;
        let mut length = 0;
        loop {
            match byte(path, length) {
                0 => break,
                b'/' => name = length + 1,
                _ => {}
            }
            length += 1;
        }
        // SAFETY: `name` is at most the position of the final zero.
        let name = unsafe { path.add(name) };
        is(name, b"runc") || is(name, b"crun")
    }

    fn are_sealed(&self) -> bool {
        let mut position = 0;
        loop {
            let text = self.variable(position);
            if text.is_null() {
                return false;
            }
            if begins_with(text, SEALED.as_bytes()) && byte(text, SEALED.len()) == b'=' {
                return true;
            }
            position += 1;
        }
    }

    fn has(&self, position: usize, word: &[u8]) -> bool {
        is(self.argument(position), word)
    }

    fn argument(&self, position: usize) -> *const u8 {
        // SAFETY: callers ask for positions below the number of arguments.
        unsafe { self.arguments.add(position).read() }
    }
}

fn is(text: *const u8, word: &[u8]) -> bool {
    begins_with(text, word) && byte(text, word.len()) == 0
}

/// No byte behind the text's final zero is read: a word has none, so that the first difference is there at the latest.
fn begins_with(text: *const u8, word: &[u8]) -> bool {
    let mut position = 0;
    while position < word.len() {
        if byte(text, position) != word[position] {
            return false;
        }
        position += 1;
    }
    true
}

fn byte(text: *const u8, position: usize) -> u8 {
    // SAFETY: callers go on to the next position only where this one was not the final zero.
    unsafe { text.add(position).read_volatile() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn wanted(arguments: &[&str], environment: &[&str]) -> bool {
        let strings = |of: &[&str]| of.iter().map(|text| CString::new(*text).unwrap()).collect::<Vec<_>>();
        let (arguments, environment) = (strings(arguments), strings(environment));
        let mut stack = vec![arguments.len()];
        stack.extend(arguments.iter().map(|text| text.as_ptr() as usize).chain([0]));
        stack.extend(environment.iter().map(|text| text.as_ptr() as usize).chain([0]));
        // SAFETY: of the form that the kernel has, and alive until the end of this function.
        unsafe { Words::at(stack.as_ptr()) }.are_of_a_runtime()
    }

    #[test]
    fn a_runtime_is_known_by_name_or_first_word() {
        assert!(wanted(&["dhow", "oci", "run", "x"], &[]));
        assert!(wanted(&["/usr/bin/runc", "--root", "/r", "exec", "x", "true"], &["A=b"]));
        assert!(wanted(&["crun", "create", "x"], &[]));
        assert!(wanted(&["./runc/runc", "restore", "x"], &[]));
        assert!(!wanted(&["dhow", "run", "x"], &[]));
        assert!(!wanted(&["/usr/runc/dhow", "run", "x"], &[]));
        assert!(!wanted(&["runcs", "run", "x"], &[]));
        assert!(!wanted(&["run", "run", "x"], &[]));
    }

    #[test]
    fn other_verbs_and_the_second_execution_go_the_ordinary_way() {
        assert!(!wanted(&["runc", "state", "x"], &[]));
        assert!(!wanted(&["runc", "runs", "x"], &[]));
        assert!(!wanted(&["runc"], &[]));
        assert!(!wanted(&[], &[]));
        assert!(!wanted(&["runc", "run", "x"], &["A=b", "_DHOW_OCI_SEALED=1"]));
        assert!(wanted(&["runc", "run", "x"], &["_DHOW_OCI_SEALED", "_DHOW_OCI_SEALED2=1", "_DHOW"]));
    }
}
