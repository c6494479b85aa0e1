//! Device rules: from the list of the runtime specification, in which the last match decides, to a mode and a set of
//! exceptions; from there to cgroup v1's lists or to a BPF program for v2.
//!
//! A list that is not empty starts from "deny all": what no rule names is denied. An empty list restricts nothing.

use crate::error::Invalid;
use kernel::bpf::Instruction;
use oci::runtime::LinuxDeviceCgroup;

const READ: u8 = 1;
const WRITE: u8 = 2;
const MKNOD: u8 = 4;
/// The programs' jumps reach no further, and no container has so many devices.
const MOST: usize = 1000;
const ALL: u8 = READ | WRITE | MKNOD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    Character,
}

/// One exact rule; `None` stands for every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

/// Rules after a starting point; the last match decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    default_allow: bool,
    rules: Vec<Rule>,
}

/// Docker's default rules: nothing, except making device nodes (which does not open them), the harmless devices, the
/// terminals, and the pseudo-terminals of the container's own devpts.
pub fn default_device_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |allow, kind: Option<&str>, major, minor, access: &str| LinuxDeviceCgroup {
        allow,
        device_type: kind.map(str::to_owned),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let open = |major, minor| rule(true, Some("c"), Some(major), minor, "rwm");
    vec![
        rule(false, None, None, None, "rwm"),
        rule(true, Some("c"), None, None, "m"),
        rule(true, Some("b"), None, None, "m"),
        open(1, Some(3)), // null
        open(1, Some(5)), // zero
        open(1, Some(7)), // full
        open(1, Some(8)), // random
        open(1, Some(9)), // urandom
        open(5, Some(0)), // tty
        open(5, Some(1)), // console
        open(5, Some(2)), // ptmx
        open(136, None),  // pts
    ]
}

/// Checks and simplifies the list: everything before the last rule for all devices is without effect and dropped.
pub(crate) fn lower(list: &[LinuxDeviceCgroup]) -> Result<Rules, Invalid> {
    if list.len() > MOST {
        return Err(Invalid::new("devices", format!("{} rules", list.len()), format!("at most {MOST}")));
    }
    let mut lowered = Rules { default_allow: list.is_empty(), rules: Vec::new() };
    for rule in list {
        let access = access(rule)?;
        let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
        let kinds: &[Kind] = match rule.device_type.as_deref() {
            None | Some("" | "a") => &[Kind::Character, Kind::Block],
            Some("c") => &[Kind::Character],
            Some("b") => &[Kind::Block],
            Some(other) => return Err(Invalid::new("devices.type", format!("{other:?}"), "a, b or c")),
        };
        if kinds.len() == 2 && major.is_none() && minor.is_none() && access == ALL {
            lowered.default_allow = rule.allow;
            lowered.rules.clear();
            continue;
        }
        for kind in kinds {
            lowered.push(Rule { allow: rule.allow, kind: *kind, major, minor, access });
        }
    }
    Ok(lowered)
}

fn access(rule: &LinuxDeviceCgroup) -> Result<u8, Invalid> {
    let Some(text) = rule.access.as_deref().filter(|text| !text.is_empty()) else { return Ok(ALL) };
    text.chars().try_fold(0, |access, letter| match letter {
        'r' => Ok(access | READ),
        'w' => Ok(access | WRITE),
        'm' => Ok(access | MKNOD),
        // The letter of "all" in v1's files, where it is a type and no access; runc leaves it out as well.
        'a' => Ok(access),
        _ => Err(Invalid::new("devices.access", format!("{text:?}"), "a combination of r, w and m")),
    })
}

fn number(name: &str, value: Option<i64>) -> Result<Option<u32>, Invalid> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| Invalid::new(format!("devices.{name}"), value, "it is not a device number")),
    }
}

impl Rule {
    /// Whether every device of `other` is one of this rule.
    fn covers(&self, other: &Rule) -> bool {
        let number = |own: Option<u32>, other: Option<u32>| own.is_none() || own == other;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// Whether some device is of both.
    fn overlaps(&self, other: &Rule) -> bool {
        let number = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// As v1 writes it: `c 1:3 rwm`.
    fn line(&self) -> String {
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        let number = |value: Option<u32>| value.map_or_else(|| "*".to_owned(), |value| value.to_string());
        let mut line = format!("{kind} {}:{} ", number(self.major), number(self.minor));
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                line.push(letter);
            }
        }
        line
    }
}

/// What v1 is to be told: `devices.deny` or `devices.allow` gets `a`, then the other file gets the lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lists {
    pub default_allow: bool,
    pub exceptions: Vec<String>,
}

impl Rules {
    /// Adds a rule; to an earlier one for the same devices if nothing contrary stands between, so that `r` and `w`
    /// allowed separately allow `rw` together.
    fn push(&mut self, rule: Rule) {
        for other in self.rules.iter_mut().rev() {
            if other.allow != rule.allow && other.overlaps(&rule) {
                break;
            }
            if other.allow == rule.allow && other.covers(&rule) && rule.covers(other) {
                other.access |= rule.access;
                return;
            }
        }
        self.rules.push(rule);
    }

    /// v1 knows a default and exceptions, not an order: a rule that takes back a part of a wider exception cannot be
    /// said (the kernel would ignore it, which for a denial means that access stays allowed).
    ///
    /// # Errors
    /// The line that cannot be expressed.
    pub(crate) fn v1(&self) -> Result<Lists, String> {
        let mut exceptions: Vec<Rule> = Vec::new();
        for rule in &self.rules {
            if rule.allow != self.default_allow {
                match exceptions.iter_mut().find(|other| other.covers(rule) && rule.covers(other)) {
                    Some(same) => same.access |= rule.access,
                    None => exceptions.push(*rule),
                }
                continue;
            }
            for exception in &mut exceptions {
                if rule.covers(exception) {
                    exception.access &= !rule.access;
                } else if rule.overlaps(exception) && rule.access & exception.access != 0 {
                    return Err(format!("{} within {}", rule.line(), exception.line()));
                }
            }
            exceptions.retain(|exception| exception.access != 0);
        }
        let exceptions = exceptions.iter().map(Rule::line).collect();
        Ok(Lists { default_allow: self.default_allow, exceptions })
    }

    /// The program for v2. Context (`struct bpf_cgroup_dev_ctx`): access and type in one word, major, minor.
    /// From the last rule to the first: the first that matches answers.
    pub(crate) fn program(&self) -> Vec<Instruction> {
        let mut code = vec![
            // r2 = type (low half), r3 = access (high half), r4 = major, r5 = minor
            instruction(LOAD_WORD, 2 | 1 << 4, 0, 0),
            instruction(MOVE, 3 | 2 << 4, 0, 0),
            instruction(AND, 2, 0, 0xffff),
            instruction(SHIFT_RIGHT, 3, 0, 16),
            instruction(LOAD_WORD, 4 | 1 << 4, 4, 0),
            instruction(LOAD_WORD, 5 | 1 << 4, 8, 0),
        ];
        // The verifier and the compiler of the kernel cost 2 µs for each instruction, on the start path.
        if !self.default_allow && !self.rules.is_empty() && self.rules.iter().all(|rule| rule.allow) {
            code.extend(self.only_allowing());
            return code;
        }
        for rule in self.rules.iter().rev() {
            code.extend(rule.instructions());
        }
        code.extend(answer(self.default_allow));
        code
    }
}

impl Rules {
    /// Without a denial, order does not matter: tests are grouped by kind and major number and share one answer.
    fn only_allowing(&self) -> Vec<Instruction> {
        let mut code = Vec::new();
        // Distances to the answer are known at the end; until then this stands for it.
        const ALLOW: i16 = i16::MAX;
        let everything = |rule: &&Rule| rule.major.is_none() && rule.minor.is_none();
        for rule in self.rules.iter().filter(everything) {
            let twin = |other: &&Rule| everything(other) && other.access == rule.access && other.kind != rule.kind;
            match self.rules.iter().find(twin) {
                Some(_) if rule.kind == Kind::Block => continue,
                Some(_) => {}
                None => code.push(instruction(JUMP_NOT_EQUAL, 2, 2, rule.kind.number())),
            }
            code.push(instruction(JUMP_ANY_BIT, 3, 1, 7 & !kernel_access(rule.access)));
            code.push(instruction(JUMP_ALWAYS, 0, ALLOW, 0));
        }
        for kind in [Kind::Character, Kind::Block] {
            let mut block = Vec::new();
            let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.kind == kind && !everything(rule)).collect();
            let mut majors: Vec<Option<u32>> = rules.iter().map(|rule| rule.major).collect();
            majors.dedup();
            for (index, major) in majors.iter().enumerate() {
                if majors[..index].contains(major) {
                    continue;
                }
                let mut group = Vec::new();
                for rule in rules.iter().filter(|rule| rule.major == *major) {
                    if rule.access != ALL {
                        group.push(instruction(JUMP_ANY_BIT, 3, 1, 7 & !kernel_access(rule.access)));
                    }
                    group.push(match rule.minor {
                        Some(minor) => instruction(JUMP_EQUAL, 5, ALLOW, minor.cast_signed()),
                        None => instruction(JUMP_ALWAYS, 0, ALLOW, 0),
                    });
                }
                if let Some(major) = major {
                    block.push(instruction(JUMP_NOT_EQUAL, 4, distance(group.len()), major.cast_signed()));
                }
                block.extend(group);
            }
            if !block.is_empty() {
                code.push(instruction(JUMP_NOT_EQUAL, 2, distance(block.len()), kind.number()));
                code.extend(block);
            }
        }
        code.extend(answer(false));
        let end = code.len();
        for (index, instruction) in code.iter_mut().enumerate() {
            if instruction.offset == ALLOW {
                instruction.offset = distance(end - index - 1);
            }
        }
        code.extend(answer(true));
        code
    }
}

/// A jump over `count` instructions; [`MOST`] rules of at most six keep within the 15 bits.
fn distance(count: usize) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}

impl Kind {
    fn number(self) -> i32 {
        match self {
            Kind::Block => 1,     // BPF_DEVCG_DEV_BLOCK
            Kind::Character => 2, // BPF_DEVCG_DEV_CHAR
        }
    }
}

/// The kernel's bits differ from the order of letters: mknod 1, read 2, write 4.
fn kernel_access(access: u8) -> i32 {
    let bit = |own: u8, kernels: i32| if access & own != 0 { kernels } else { 0 };
    bit(MKNOD, 1) | bit(READ, 2) | bit(WRITE, 4)
}

const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const MOVE_NUMBER: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_NOT_EQUAL: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K (Linux 5.1): all 32 bits of a device number
const JUMP_EQUAL: u8 = 0x16; // BPF_JMP32 | BPF_JEQ | BPF_K
const JUMP_ANY_BIT: u8 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const EXIT: u8 = 0x95;

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE_NUMBER, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0)]
}

impl Rule {
    /// An allowing rule matches if it has every access asked for, a denying one if it has any of them.
    fn instructions(&self) -> Vec<Instruction> {
        let mut tests: Vec<Instruction> = vec![instruction(JUMP_NOT_EQUAL, 2, 0, self.kind.number())];
        let access = kernel_access(self.access);
        if self.allow {
            if access != 7 {
                tests.push(instruction(JUMP_ANY_BIT, 3, 0, 7 & !access));
            }
        } else {
            // Skips the jump away that follows it.
            tests.push(instruction(JUMP_ANY_BIT, 3, 1, access));
            tests.push(instruction(JUMP_ALWAYS, 0, 0, 0));
        }
        if let Some(major) = self.major {
            tests.push(instruction(JUMP_NOT_EQUAL, 4, 0, major.cast_signed()));
        }
        if let Some(minor) = self.minor {
            tests.push(instruction(JUMP_NOT_EQUAL, 5, 0, minor.cast_signed()));
        }
        let count = tests.len();
        for (index, test) in tests.iter_mut().enumerate() {
            let skips_one = test.code == JUMP_ANY_BIT && test.offset == 1;
            if !skips_one {
                // Over the remaining tests and the two instructions of the answer. At most six tests.
                test.offset = distance(count - index - 1 + 2);
            }
        }
        tests.extend(answer(self.allow));
        tests
    }
}

const JUMP_ALWAYS: u8 = 0x05; // BPF_JMP | BPF_JA

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: i32 = 1;
    const CHARACTER: i32 = 2;

    fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
        LinuxDeviceCgroup {
            allow,
            device_type: Some(kind.into()),
            major: Some(major),
            minor: Some(minor),
            access: Some(access.into()),
        }
    }

    /// Runs the program as the kernel would. 32-bit operations and comparisons of small numbers only.
    fn run(program: &[Instruction], kind: i32, access: u32, major: u32, minor: u32) -> bool {
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let i = program[at];
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            at += 1;
            let mut jump = |taken: bool| {
                if taken {
                    at = at.checked_add_signed(isize::from(i.offset)).unwrap();
                }
            };
            match i.code {
                LOAD_WORD => {
                    let words = [access << 16 | kind.cast_unsigned(), major, minor];
                    registers[to] = u64::from(words[usize::try_from(i.offset).unwrap() / 4]);
                }
                MOVE => registers[to] = registers[from] & 0xffff_ffff,
                MOVE_NUMBER => registers[to] = i64::from(i.immediate).cast_unsigned(),
                AND => registers[to] &= u64::from(i.immediate.cast_unsigned()),
                SHIFT_RIGHT => registers[to] >>= i.immediate,
                JUMP_NOT_EQUAL => jump(registers[to] & 0xffff_ffff != u64::from(i.immediate.cast_unsigned())),
                JUMP_EQUAL => jump(registers[to] & 0xffff_ffff == u64::from(i.immediate.cast_unsigned())),
                JUMP_ANY_BIT => jump(registers[to] & i64::from(i.immediate).cast_unsigned() != 0),
                JUMP_ALWAYS => jump(true),
                EXIT => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn docker_defaults_in_both_forms() {
        let rules = lower(&default_device_rules()).unwrap();
        let lists = rules.v1().unwrap();
        assert!(!lists.default_allow);
        assert_eq!(lists.exceptions[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        let program = rules.program();
        let (mknod, read, write) = (1, 2, 4);
        assert!(run(&program, CHARACTER, read | write, 1, 3), "null");
        assert!(run(&program, CHARACTER, mknod | read | write, 136, 77), "pts");
        assert!(run(&program, BLOCK, mknod, 8, 0), "mknod");
        assert!(!run(&program, BLOCK, read, 8, 0), "disk");
        assert!(!run(&program, BLOCK, mknod | read, 8, 0), "mknod and read of a disk");
        assert!(!run(&program, CHARACTER, read, 1, 1), "mem");
        assert!(!run(&program, CHARACTER, read, 10, 200), "tun");
        assert_eq!(program.len(), 25);
        // The same rules in the general form, by way of a denial that denies nothing that was allowed.
        let mut more = default_device_rules();
        more.push(rule(false, "b", 4000, 0, "rwm"));
        let general = lower(&more).unwrap().program();
        for kind in [BLOCK, CHARACTER] {
            for access in 1..8 {
                for (major, minor) in
                    [(0, 0), (1, 1), (1, 3), (1, 5), (1, 11), (5, 0), (5, 2), (5, 3), (8, 0), (136, 9)]
                {
                    let answers = [&program, &general].map(|program| run(program, kind, access, major, minor));
                    assert_eq!(answers[0], answers[1], "{kind} {access} {major}:{minor}");
                }
            }
        }
    }

    #[test]
    fn the_last_match_decides() {
        let list = [rule(true, "c", 1, -1, "rwm"), rule(false, "c", 1, 3, "w"), rule(true, "b", 8, 0, "r")];
        let rules = lower(&list).unwrap();
        let program = rules.program();
        assert!(run(&program, CHARACTER, 2, 1, 3));
        assert!(!run(&program, CHARACTER, 4, 1, 3));
        assert!(!run(&program, CHARACTER, 6, 1, 3), "any denied access denies");
        assert!(run(&program, CHARACTER, 6, 1, 5));
        assert!(run(&program, BLOCK, 2, 8, 0) && !run(&program, BLOCK, 2, 8, 1));
        assert_eq!(rules.v1(), Err("c 1:3 w within c 1:* rwm".to_owned()));
    }

    #[test]
    fn taking_back_an_exception_and_starting_over() {
        let list = [rule(true, "c", 1, 3, "rw"), rule(true, "c", 1, 3, "m"), rule(false, "c", -1, -1, "w")];
        assert_eq!(lower(&list).unwrap().v1().unwrap().exceptions, ["c 1:3 rm"]);
        let separate = [rule(true, "c", 1, 3, "r"), rule(true, "c", 1, 3, "w")];
        assert!(run(&lower(&separate).unwrap().program(), CHARACTER, 6, 1, 3));
        let large = [rule(true, "c", i64::from(u32::MAX), 0, "r")];
        assert!(run(&lower(&large).unwrap().program(), CHARACTER, 2, u32::MAX, 0));
        let all = LinuxDeviceCgroup { allow: true, ..Default::default() };
        let rules = lower(&[list[0].clone(), all]).unwrap();
        assert_eq!(rules, Rules { default_allow: true, rules: vec![] });
        assert!(run(&rules.program(), BLOCK, 7, 8, 0));
        assert!(lower(&[]).unwrap().default_allow);
        let partial = LinuxDeviceCgroup { allow: true, access: Some("r".into()), ..Default::default() };
        let rules = lower(&[partial]).unwrap();
        assert!(run(&rules.program(), BLOCK, 2, 8, 0) && !run(&rules.program(), BLOCK, 4, 8, 0));
    }

    #[test]
    fn wrong_rules_are_refused() {
        assert!(lower(&[rule(true, "p", 1, 3, "r")]).is_err());
        assert!(lower(&[rule(true, "c", 1, 3, "rx")]).is_err());
        assert!(lower(&[rule(true, "c", -2, 3, "r")]).is_err());
        assert!(lower(&[rule(true, "c", 1, i64::MAX, "r")]).is_err());
    }
}
