//! A compiled filter.

use crate::emit::Instruction;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A filter for seccomp(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Each as `struct sock_filter` lies in this machine's memory. As text, 16 hexadecimal digits each.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub instructions: Vec<[u8; 8]>,
    /// `SECCOMP_FILTER_FLAG_…`.
    pub flags: u32,
}

/// All threads of the process.
pub const FLAG_TSYNC: u32 = 1;
/// Log everything but allow.
pub const FLAG_LOG: u32 = 2;
/// Leave speculative store bypass on.
pub const FLAG_SPEC_ALLOW: u32 = 4;
/// Give a descriptor on which calls are answered.
pub const FLAG_NEW_LISTENER: u32 = 8;
/// With both of TSYNC and NEW_LISTENER, failure of the first is an errno (Linux 5.7).
pub const FLAG_TSYNC_ESRCH: u32 = 16;
/// A call that waits for its answer can only be killed (Linux 5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 32;

impl Program {
    /// Whether loading it gives a listener's descriptor.
    pub fn has_listener(&self) -> bool {
        self.flags & FLAG_NEW_LISTENER != 0
    }

    pub(crate) fn new(instructions: &[Instruction], flags: u32) -> Program {
        let bytes = |instruction: &Instruction| {
            let [a, b] = instruction.code.to_ne_bytes();
            let [v, w, x, y] = instruction.value.to_ne_bytes();
            [a, b, instruction.jump_true, instruction.jump_false, v, w, x, y]
        };
        Program { instructions: instructions.iter().map(bytes).collect(), flags }
    }
}

fn to_hex<S: Serializer>(instructions: &[[u8; 8]], serializer: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(instructions.len() * 16);
    for byte in instructions.iter().flatten() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    serializer.serialize_str(&text)
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<[u8; 8]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let refuse = || serde::de::Error::custom("a filter is 16 hexadecimal digits for each instruction");
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (words, rest) = text.as_bytes().as_chunks::<16>();
    if !rest.is_empty() {
        return Err(refuse());
    }
    let mut instructions = Vec::with_capacity(words.len());
    for word in words {
        let mut instruction = [0u8; 8];
        for (byte, pair) in instruction.iter_mut().zip(word.as_chunks::<2>().0) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(refuse()) };
            *byte = high << 4 | low;
        }
        instructions.push(instruction);
    }
    Ok(instructions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_text_and_back() {
        let instruction = Instruction { code: 0x15, jump_true: 1, jump_false: 255, value: 0xc000_003e };
        let program = Program::new(&[instruction], FLAG_LOG);
        let text = serde_json::to_string(&program).unwrap();
        assert_eq!(text, r#"{"instructions":"150001ff3e0000c0","flags":2}"#);
        assert_eq!(serde_json::from_str::<Program>(&text).unwrap(), program);
        for bad in ["1", "150001ff3e0000cX", "é50001ff3e0000c"] {
            assert!(serde_json::from_str::<Program>(&format!(r#"{{"instructions":"{bad}","flags":0}}"#)).is_err());
        }
    }
}
