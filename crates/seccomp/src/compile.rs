//! From rules to a program.
//!
//! The numbers of each architecture are cut into ranges with one answer; a binary search over their beginnings finds the
//! range in at most nine comparisons. That is also the form that the kernel (5.11) recognises as "always allowed" and
//! then answers from a bitmap without running the filter.
//!
//! Meaning, as libseccomp and runc give it, since profiles were written for them: a rule without conditions beats every
//! rule with conditions for the same call; among several of the former the first counts, among several of the latter the
//! first that matches; a rule whose action is the default is dropped; a rule that tests one argument twice is as many
//! rules. A call whose number is above all that the profile names gets `ENOSYS`, unless the default lets calls pass: a
//! C library must see that a new call does not exist, `EPERM` would make it give up (runc 1.0.0-rc93).

use crate::arch::{Column, X32_BIT};
use crate::emit::{ARCHITECTURE, Code, Condition, JUMP_AT_LEAST, JUMP_EQUAL, NUMBER, Place};
use crate::names;
use crate::numbers::{NONE, ROWS};
use crate::program::{
    FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_TSYNC_ESRCH, FLAG_WAIT_KILLABLE_RECV, Program,
};
use oci::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFlag as Flag,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use std::borrow::Cow;

/// `BPF_MAXINSNS`.
const MOST_INSTRUCTIONS: usize = 4096;
/// The numbers of calls are below this, but for a few private ones of 32-bit ARM.
const DENSE: usize = 1024;

pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
pub(crate) const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 1;
pub(crate) const ENOSYS: u32 = 38;

/// A profile that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no table of numbers for it.
    #[error("system call filters are not supported on {0} (x86_64 and aarch64 are)")]
    Architecture(&'static str),
    /// A condition on an argument that no call has.
    #[error("rule for {call}: argument {index} does not exist (0 to 5 do)")]
    Argument {
        /// The first name of the rule.
        call: String,
        /// The argument's index.
        index: u32,
    },
    /// Not an errno or message that fits.
    #[error("rule for {call}: errno {errno} does not exist (0 to 4095 do)")]
    Errno {
        /// The first name of the rule.
        call: String,
        /// The number.
        errno: u32,
    },
    /// The program that answers would have to make the very call that waits for its answer.
    #[error("SCMP_ACT_NOTIFY cannot be used {0}")]
    Notify(&'static str),
    /// The kernel takes no more.
    #[error("the filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}

/// One rule in the compiler's form.
#[derive(Debug, Clone)]
pub(crate) struct Rule<'a> {
    pub calls: Cow<'a, [u16]>,
    pub answer: u32,
    pub conditions: Cow<'a, [Condition]>,
}

/// Compiles a profile for processes of `native`, the architecture of the running kernel.
///
/// # Errors
/// A profile that makes no sense; see [`Error`]. Names that are unknown are not an error.
pub fn compile(profile: &LinuxSeccomp, native: Arch) -> Result<Program, Error> {
    let column = supported(native)?;
    let default = answer("the default", profile.default_action, profile.default_errno_ret)?;
    if profile.default_action == Action::Notify {
        return Err(Error::Notify("as the default: its supervisor could do nothing"));
    }
    let mut rules = Vec::with_capacity(profile.syscalls.len());
    for syscall in &profile.syscalls {
        lower(syscall, &mut rules)?;
    }
    let mut columns = vec![column];
    for arch in &profile.architectures {
        columns.extend(Column::of(*arch).filter(|_| column.secondary().contains(arch)));
    }
    let notify = profile.syscalls.iter().any(|syscall| syscall.action == Action::Notify);
    assemble(&columns, &rules, default, flags(profile.flags.as_deref(), notify))
}

fn supported(native: Arch) -> Result<Column, Error> {
    match native {
        Arch::X86_64 => Ok(Column::X86_64),
        Arch::Aarch64 => Ok(Column::Aarch64),
        other => Err(Error::Architecture(other.name())),
    }
}

fn answer(call: &str, action: Action, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(EPERM);
    Ok(match action {
        Action::Kill | Action::KillThread => 0,
        Action::KillProcess => KILL_PROCESS,
        Action::Trap => 0x0003_0000,
        Action::Errno if data > 4095 => return Err(Error::Errno { call: call.to_owned(), errno: data }),
        Action::Errno => ERRNO | data,
        Action::Notify => 0x7fc0_0000,
        Action::Trace if data > 0xffff => return Err(Error::Errno { call: call.to_owned(), errno: data }),
        Action::Trace => 0x7ff0_0000 | data,
        Action::Log => 0x7ffc_0000,
        Action::Allow => ALLOW,
    })
}

/// A profile that says nothing of flags asks for no mitigation of speculative stores, as with runc: before Linux 5.16 every process
/// with a filter pays for it otherwise.
fn flags(wanted: Option<&[Flag]>, notify: bool) -> u32 {
    let mut flags = if notify { FLAG_NEW_LISTENER } else { 0 };
    for flag in wanted.unwrap_or(&[Flag::SpecAllow]) {
        flags |= match flag {
            Flag::Tsync if notify => FLAG_TSYNC | FLAG_TSYNC_ESRCH,
            Flag::Tsync => FLAG_TSYNC,
            Flag::Log => FLAG_LOG,
            Flag::SpecAllow => FLAG_SPEC_ALLOW,
            // The kernel refuses it without a listener, where it means nothing.
            Flag::WaitKillableRecv if notify => FLAG_WAIT_KILLABLE_RECV,
            Flag::WaitKillableRecv => 0,
        };
    }
    flags
}

fn lower<'a>(syscall: &LinuxSyscall, rules: &mut Vec<Rule<'a>>) -> Result<(), Error> {
    let first = || syscall.names.first().cloned().unwrap_or_default();
    if syscall.action == Action::Notify && syscall.names.iter().any(|name| name == "write") {
        return Err(Error::Notify("for the write syscall: the message to the supervisor is one"));
    }
    let answer = answer(syscall.names.first().map_or("", String::as_str), syscall.action, syscall.errno_ret)?;
    let calls: Vec<u16> = syscall.names.iter().filter_map(|name| names::row(name)).collect();
    let mut conditions = Vec::with_capacity(syscall.args.len());
    let mut seen = 0u8;
    let mut twice = false;
    for LinuxSeccompArg { index, value, value_two, op } in &syscall.args {
        if *index > 5 {
            return Err(Error::Argument { call: first(), index: *index });
        }
        twice |= seen & 1 << index != 0;
        seen |= 1 << index;
        conditions.push(Condition { index: *index, operator: *op, value: *value, value_two: *value_two });
    }
    if twice {
        let calls: Cow<'a, [u16]> = calls.into();
        for condition in conditions {
            rules.push(Rule { calls: calls.clone(), answer, conditions: vec![condition].into() });
        }
    } else {
        rules.push(Rule { calls: calls.into(), answer, conditions: conditions.into() });
    }
    Ok(())
}

/// What happens to one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Answer(u32),
    /// Index into a list of lists of rules.
    Chain(usize),
}

/// The decisions of one architecture.
struct Table {
    /// By number: one more than the index into `decisions`, or zero.
    dense: Vec<usize>,
    /// The numbers above, unordered.
    sparse: Vec<(u32, usize)>,
    decisions: Vec<Target>,
    /// Rules in order, with extra conditions for calls that are made through another (see [`MULTIPLEXED`]).
    chains: Vec<Vec<(Option<Condition>, usize)>>,
    highest: Option<u32>,
}

impl Table {
    fn slot(&mut self, number: u32) -> &mut usize {
        self.highest = self.highest.max(Some(number));
        match usize::try_from(number) {
            Ok(index) if index < DENSE => &mut self.dense[index],
            _ => {
                let at = self.sparse.iter().position(|(other, _)| *other == number).unwrap_or_else(|| {
                    self.sparse.push((number, 0));
                    self.sparse.len() - 1
                });
                &mut self.sparse[at].1
            }
        }
    }

    /// `whole` is the decision of the rule if it has no conditions.
    fn put(&mut self, number: u32, rule: usize, whole: Option<usize>, extra: Option<Condition>) {
        let slot = *self.slot(number);
        let decided = slot.checked_sub(1).map(|index| self.decisions[index]);
        match (whole, decided) {
            (_, Some(Target::Answer(_))) => {}
            (Some(whole), _) => *self.slot(number) = whole + 1,
            (None, Some(Target::Chain(chain))) => self.chains[chain].push((extra, rule)),
            (None, None) => {
                self.chains.push(vec![(extra, rule)]);
                *self.slot(number) = self.decide(Target::Chain(self.chains.len() - 1)) + 1;
            }
        }
    }

    fn decide(&mut self, target: Target) -> usize {
        self.decisions.push(target);
        self.decisions.len() - 1
    }
}

/// Old 32-bit x86 makes these calls through `socketcall` and `ipc`, whose first argument tells which. By row of the table
/// of numbers: that argument, with [`IPC`] added for the latter; zero for all others.
static MULTIPLEXED: [u16; ROWS.len()] = multiplexed();
const IPC: u16 = 0x100;

const fn multiplexed() -> [u16; ROWS.len()] {
    const SOCKETCALL: [u16; 20] = names::rows([
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ]);
    const SEMAPHORES: [u16; 4] = names::rows(["semop", "semget", "semctl", "semtimedop"]);
    const MESSAGES: [u16; 4] = names::rows(["msgsnd", "msgrcv", "msgget", "msgctl"]);
    const MEMORY: [u16; 4] = names::rows(["shmat", "shmdt", "shmget", "shmctl"]);
    let mut table = [0; ROWS.len()];
    let mut at = 0;
    while at < SOCKETCALL.len() {
        table[SOCKETCALL[at] as usize] = at as u16 + 1;
        at += 1;
    }
    at = 0;
    while at < 4 {
        table[SEMAPHORES[at] as usize] = IPC + at as u16 + 1;
        table[MESSAGES[at] as usize] = IPC + at as u16 + 11;
        table[MEMORY[at] as usize] = IPC + at as u16 + 21;
        at += 1;
    }
    table
}

fn tabulate(column: Column, rules: &[Rule<'_>], default: u32) -> Table {
    let mut table =
        Table { dense: vec![0; DENSE], sparse: Vec::new(), decisions: Vec::new(), chains: Vec::new(), highest: None };
    let number = |row: u16| ROWS[usize::from(row)].numbers[column as usize];
    for (index, rule) in rules.iter().enumerate() {
        if rule.answer == default {
            // Known by name, all the same: not one of the future.
            let known = rule.calls.iter().map(|row| number(*row)).filter(|number| *number != NONE).max();
            table.highest = table.highest.max(known);
            continue;
        }
        let whole = rule.conditions.is_empty().then(|| table.decide(Target::Answer(rule.answer)));
        for row in rule.calls.iter() {
            match number(*row) {
                NONE => {}
                number => table.put(number, index, whole, None),
            }
            // A pointer to arguments cannot be followed: conditions on them cannot be tested there.
            let through = MULTIPLEXED[usize::from(*row)];
            if column == Column::X86 && through != 0 && rule.conditions.is_empty() {
                const THROUGH: [u16; 2] = names::rows(["socketcall", "ipc"]);
                // ipc's upper half is a version.
                let operator = Operator::MaskedEqual;
                let value_two = u64::from(through % IPC);
                let extra = Condition { index: 0, operator, value: 0xffff, value_two };
                table.put(number(THROUGH[usize::from(through / IPC)]), index, None, Some(extra));
            }
        }
    }
    table.sparse.sort_unstable();
    table
}

/// A default that lets calls pass is left alone: the call may exist in the running kernel.
fn passes(answer: u32) -> bool {
    matches!(answer & 0xffff_0000, ALLOW | 0x7ffc_0000 | 0x7ff0_0000)
}

/// Numbers from `start` to the next range's.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u32,
    table: usize,
    target: Target,
}

/// The ranges of numbers with one target, from 0 to the end.
fn ranges(table: &Table, index: usize, default: u32) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::with_capacity(256);
    let mut next = 0;
    let mut push = |start: u32, target: Target| {
        if ranges.last().is_none_or(|last| last.target != target) {
            ranges.push(Range { start, table: index, target });
        }
    };
    let target = |slot: usize| slot.checked_sub(1).map_or(Target::Answer(default), |at| table.decisions[at]);
    let highest = table.highest.unwrap_or(0);
    for (slot, number) in table.dense.iter().zip(0u32..).take_while(|(_, number)| *number <= highest) {
        push(number, target(*slot));
        next = number + 1;
    }
    for (number, slot) in &table.sparse {
        if *number > next {
            push(next, Target::Answer(default));
        }
        push(*number, target(*slot));
        next = number + 1;
    }
    let beyond = if passes(default) { default } else { ERRNO | ENOSYS };
    push(next, Target::Answer(beyond));
    ranges
}

/// The first number that x32 has for itself; those below are x86_64's (arch/x86/entry/syscalls/syscall_64.tbl).
const X32_OWN: u32 = 512;

/// One search for both saves a third of the program, and loading it is the larger part of its cost. A number that one of
/// the two does not have may then pass where the other has it: the kernel (5.4) answers `ENOSYS` to it.
fn share_with_x32(all: &mut Vec<Range>, x32: Vec<Range>) {
    all.retain(|range| range.start < X32_OWN);
    let own = x32.iter().rposition(|range| range.start <= X32_OWN).unwrap_or(0);
    all.extend(x32[own..].iter().map(|range| Range { start: range.start.max(X32_OWN), ..*range }));
}

/// A range with single numbers in it that have another target: an equality test for each costs one instruction, where
/// three ranges would cost two.
struct Leaf {
    range: Range,
    except: Vec<Range>,
}

fn leaves(ranges: &[Range]) -> Vec<Leaf> {
    const MOST: usize = 3;
    let mut leaves: Vec<Leaf> = Vec::with_capacity(ranges.len());
    let mut at = 0;
    while let Some(range) = ranges.get(at) {
        let mut leaf = Leaf { range: *range, except: Vec::new() };
        while let [single, after, ..] = &ranges[at + 1..]
            && after.start == single.start + 1
            && after.target == range.target
            && leaf.except.len() < MOST
        {
            leaf.except.push(*single);
            at += 2;
        }
        leaves.push(leaf);
        at += 1;
    }
    leaves
}

struct Tree<'a> {
    code: &'a mut Code,
    tables: &'a [Table],
    rules: &'a [Rule<'a>],
    default: u32,
}

impl Tree<'_> {
    fn search(&mut self, leaves: &[Leaf]) -> Place {
        match leaves {
            [] => self.code.answer(self.default),
            [Leaf { range, except }] => {
                let mut place = self.leaf(range.table, range.target);
                for single in except.iter().rev() {
                    let target = self.leaf(single.table, single.target);
                    place = self.code.branch(JUMP_EQUAL, single.start, target, place);
                }
                place
            }
            _ => {
                let (left, right) = leaves.split_at(leaves.len() / 2);
                let above = self.search(right);
                let below = self.search(left);
                self.code.branch(JUMP_AT_LEAST, right[0].range.start, above, below)
            }
        }
    }

    fn leaf(&mut self, table: usize, target: Target) -> Place {
        let chain = match target {
            Target::Answer(answer) => return self.code.answer(answer),
            Target::Chain(chain) => &self.tables[table].chains[chain],
        };
        let mut next = self.code.answer(self.default);
        for (extra, rule) in chain.iter().rev() {
            // More than fits is refused at the end; here it is only not written.
            if self.code.len() > 2 * MOST_INSTRUCTIONS {
                return next;
            }
            let rule = &self.rules[*rule];
            let mut met = self.code.answer(rule.answer);
            for condition in rule.conditions.iter().chain(extra).rev() {
                met = self.code.condition(condition, met, next);
            }
            next = met;
        }
        next
    }
}

/// Writes the whole program. `columns` begins with the native one.
pub(crate) fn assemble(columns: &[Column], rules: &[Rule<'_>], default: u32, flags: u32) -> Result<Program, Error> {
    let tables: Vec<Table> = columns.iter().map(|column| tabulate(*column, rules, default)).collect();
    let mut code = Code::with_capacity(1024);
    let mut sections: Vec<(u32, Place)> = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        // x32 is a part of the section of x86_64; a name given twice is given once.
        if *column == Column::X32 || columns[..at].contains(column) {
            continue;
        }
        let mut all = ranges(&tables[at], at, default);
        let x32 = columns.iter().position(|other| *other == Column::X32);
        let shared = x32.filter(|_| *column == Column::X86_64);
        if let Some(x32) = shared {
            share_with_x32(&mut all, ranges(&tables[x32], x32, default));
        } else if *column == Column::X86_64 {
            all.push(Range { start: X32_BIT, table: at, target: Target::Answer(KILL_PROCESS) });
            // A tracer that suppresses a call sets its number to -1.
            all.push(Range { start: u32::MAX, table: at, target: Target::Answer(default) });
        }
        let mut tree = Tree { code: &mut code, tables: &tables, rules, default };
        let mut entry = tree.search(&leaves(&all));
        if shared.is_some() {
            entry = code.mask(!X32_BIT, entry);
        }
        sections.push((column.audit(), code.load(NUMBER, entry)));
        if code.len() > MOST_INSTRUCTIONS {
            return Err(Error::TooLong(code.len()));
        }
    }
    // Calls of an architecture that the profile does not speak of cannot be judged.
    let mut next = code.answer(KILL_PROCESS);
    for (audit, place) in sections.iter().rev() {
        next = code.branch(JUMP_EQUAL, *audit, *place, next);
    }
    code.load(ARCHITECTURE, next);
    if code.len() > MOST_INSTRUCTIONS {
        return Err(Error::TooLong(code.len()));
    }
    Ok(Program::new(&code.finish(), flags))
}
