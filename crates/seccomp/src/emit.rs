//! Classic BPF, written from its end to its beginning.
//!
//! All jumps go forward, so that a program written backwards knows the distance of every jump when it is written, and
//! answers and common tails are shared by jumping to what is there already. A conditional jump reaches 255 instructions;
//! what lies further gets a copy of the answer, or an unconditional jump, in between.

use oci::runtime::LinuxSeccompOperator as Operator;

/// One instruction: code, distance if true, distance if false, value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

pub(crate) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(crate) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(crate) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(crate) const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(crate) const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(crate) const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(crate) const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data`.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Short of 255: the instructions that are written between asking and jumping are fewer than the rest.
const REACH: usize = 240;

/// A test of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub index: u32,
    pub operator: Operator,
    pub value: u64,
    /// What a masked argument is compared with.
    pub value_two: u64,
}

/// An instruction that is already written, counted from the end.
pub(crate) type Place = usize;

/// The program so far, last instruction first.
#[derive(Default)]
pub(crate) struct Code {
    reversed: Vec<Instruction>,
    answers: Vec<(u32, Place)>,
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

impl Code {
    pub(crate) fn with_capacity(count: usize) -> Code {
        Code { reversed: Vec::with_capacity(count), answers: Vec::new() }
    }

    fn push(&mut self, code: u16, jump_true: u8, jump_false: u8, value: u32) -> Place {
        self.reversed.push(Instruction { code, jump_true, jump_false, value });
        self.reversed.len() - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// The instructions from the first to the last.
    pub(crate) fn finish(self) -> Vec<Instruction> {
        self.reversed.into_iter().rev().collect()
    }

    /// Ends with this answer; one that was written before is used again.
    pub(crate) fn answer(&mut self, value: u32) -> Place {
        if let Some((_, place)) = self.answers.iter().find(|(other, _)| *other == value) {
            return *place;
        }
        let place = self.push(RETURN, 0, 0, value);
        self.answers.push((value, place));
        place
    }

    /// Somewhere within the reach of the next instructions from where `target` is gone on with.
    fn near(&mut self, target: Place) -> Place {
        let distance = self.reversed.len() - target;
        if distance < REACH {
            return target;
        }
        let there = self.reversed[target];
        if there.code == RETURN {
            let place = self.push(RETURN, 0, 0, there.value);
            if let Some(known) = self.answers.iter_mut().find(|(other, _)| *other == there.value) {
                known.1 = place;
            }
            return place;
        }
        // Programs are limited to 4096 instructions; the distance fits.
        self.push(JUMP, 0, 0, u32::try_from(distance - 1).unwrap_or(u32::MAX))
    }

    /// Compares the accumulator with `value`.
    pub(crate) fn branch(&mut self, code: u16, value: u32, if_true: Place, if_false: Place) -> Place {
        if if_true == if_false {
            return if_true;
        }
        let if_true = self.near(if_true);
        let if_false = self.near(if_false);
        let here = self.reversed.len();
        let distance = |place: Place| u8::try_from(here - place - 1).unwrap_or(u8::MAX);
        self.push(code, distance(if_true), distance(if_false), value)
    }

    /// Loads the word at `offset` and goes on with `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Place) -> Place {
        self.follow(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Keeps the bits of `mask` and goes on with `next`.
    pub(crate) fn mask(&mut self, mask: u32, next: Place) -> Place {
        self.follow(next);
        self.push(AND, 0, 0, mask)
    }

    /// Makes `next` the instruction that comes right after the one that is written now.
    fn follow(&mut self, next: Place) {
        let distance = self.reversed.len() - next - 1;
        if distance > 0 {
            self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX));
        }
    }

    fn masked(&mut self, offset: u32, mask: u32, value: u32, met: Place, not: Place) -> Place {
        if mask == 0 {
            return if value == 0 { met } else { not };
        }
        let mut next = self.branch(JUMP_EQUAL, value, met, not);
        if mask != u32::MAX {
            next = self.mask(mask, next);
        }
        self.load(offset, next)
    }

    /// Tests an argument of 64 bits, first its high half: goes on with `met` or with `not`.
    pub(crate) fn condition(&mut self, condition: &Condition, met: Place, not: Place) -> Place {
        // `struct seccomp_data` is in the machine's byte order; all that are supported have the low half first.
        let (first, second) = (ARGUMENTS + 8 * condition.index, ARGUMENTS + 8 * condition.index + 4);
        let value = condition.value;
        match condition.operator {
            Operator::EqualTo => {
                let then = self.masked(first, u32::MAX, low(value), met, not);
                self.masked(second, u32::MAX, high(value), then, not)
            }
            Operator::NotEqual => {
                let then = self.masked(first, u32::MAX, low(value), not, met);
                self.masked(second, u32::MAX, high(value), then, met)
            }
            Operator::MaskedEqual => {
                let (mask, value) = (condition.value, condition.value_two);
                let then = self.masked(first, low(mask), low(value), met, not);
                self.masked(second, high(mask), high(value), then, not)
            }
            Operator::GreaterThan => self.ordered(JUMP_GREATER, (first, second), value, met, not),
            Operator::GreaterEqual => self.ordered(JUMP_AT_LEAST, (first, second), value, met, not),
            Operator::LessEqual => self.ordered(JUMP_GREATER, (first, second), value, not, met),
            Operator::LessThan => self.ordered(JUMP_AT_LEAST, (first, second), value, not, met),
        }
    }

    /// Greater in the high half decides, less too; if equal, `code` on the low half decides.
    fn ordered(&mut self, code: u16, (first, second): (u32, u32), value: u64, met: Place, not: Place) -> Place {
        let low_half = self.branch(code, low(value), met, not);
        let low_half = self.load(first, low_half);
        let equal = self.branch(JUMP_EQUAL, high(value), low_half, not);
        let greater = self.branch(JUMP_GREATER, high(value), met, equal);
        self.load(second, greater)
    }
}
