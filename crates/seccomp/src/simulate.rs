//! Tests of the compiler: programs are run as the kernel would run them.

use crate::arch::X32_BIT;
use crate::compile::{ALLOW, ENOSYS, ERRNO, KILL_PROCESS};
use crate::default::{KernelVersion, default_profile, default_program};
use crate::emit::{AND, JUMP, JUMP_AT_LEAST, JUMP_EQUAL, JUMP_GREATER, LOAD, RETURN};
use crate::numbers::{NONE, ROWS};
use crate::{Error, Program, compile};
use oci::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use proptest::prelude::*;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;
const EPERM: u32 = ERRNO | 1;

/// Runs it; panics on whatever the kernel would refuse: a jump out of the program, an unknown code, no end.
fn run(program: &Program, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    assert!((1..=4096).contains(&program.instructions.len()));
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let mut accumulator = 0u32;
    let mut at = 0usize;
    loop {
        let [a, b, jump_true, jump_false, v, w, x, y] = program.instructions[at];
        let value = u32::from_ne_bytes([v, w, x, y]);
        at += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { jump_true } else { jump_false });
        match u16::from_ne_bytes([a, b]) {
            LOAD => {
                let offset = value as usize;
                assert!(offset.is_multiple_of(4));
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            AND => accumulator &= value,
            JUMP => at += value as usize,
            JUMP_EQUAL => branch(accumulator == value),
            JUMP_GREATER => branch(accumulator > value),
            JUMP_AT_LEAST => branch(accumulator >= value),
            RETURN => return value,
            other => panic!("{other:#x}"),
        }
    }
}

fn number(name: &str, column: usize) -> u32 {
    let number = ROWS[usize::from(crate::names::row(name).unwrap())].numbers[column];
    assert_ne!(number, NONE, "{name}");
    number
}

fn profile(default_action: Action, syscalls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    LinuxSeccomp {
        default_action,
        default_errno_ret: None,
        architectures: vec![Arch::X86_64, Arch::X86, Arch::X32],
        flags: Some(vec![]),
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}

fn rule(names: &[&str], action: Action, args: &[(u32, Operator, u64, u64)]) -> LinuxSyscall {
    let args = args.iter().map(|(index, op, value, value_two)| LinuxSeccompArg {
        index: *index,
        value: *value,
        value_two: *value_two,
        op: *op,
    });
    LinuxSyscall {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action,
        errno_ret: None,
        args: args.collect(),
    }
}

const DOCKER_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const KERNEL: KernelVersion = KernelVersion(6, 18);

#[test]
fn the_default_profile_as_docker_means_it() {
    let program = default_program(DOCKER_CAPABILITIES, KERNEL, Arch::X86_64).unwrap();
    let none = [0; 6];
    let ask = |name: &str, arguments| run(&program, X86_64, number(name, 0), arguments);
    for allowed in
        ["read", "write", "openat", "execve", "ptrace", "chroot", "mseal", "io_submit", "modify_ldt", "statmount"]
    {
        assert_eq!(ask(allowed, none), ALLOW, "{allowed}");
    }
    for denied in [
        "mount",
        "bpf",
        "reboot",
        "init_module",
        "unshare",
        "setns",
        "keyctl",
        "io_uring_setup",
        "userfaultfd",
        "add_key",
        "kexec_load",
        "pidfd_getfd",
        "open_by_handle_at",
        "mbind",
        "swapon",
        "open_tree_attr",
        "nfsservctl",
    ] {
        let expected = if number(denied, 0) > 466 { ERRNO | ENOSYS } else { EPERM };
        assert_eq!(ask(denied, none), expected, "{denied}");
    }
    assert_eq!(ask("clone3", none), ERRNO | ENOSYS);
    assert_eq!(ask("clone", [0x0001_0f00, 0, 0, 0, 0, 0]), ALLOW);
    for namespace in [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(ask("clone", [namespace | 17, 0, 0, 0, 0, 0]), EPERM, "{namespace:#x}");
    }
    for family in 0..50 {
        let expected = if family == 38 || family == 40 { EPERM } else { ALLOW };
        let expected = if family > 47 { EPERM } else { expected };
        assert_eq!(ask("socket", [family, 0, 0, 0, 0, 0]), expected, "{family}");
        // The kernel drops the upper half.
        assert_eq!(ask("socket", [1 << 32 | family, 0, 0, 0, 0, 0]), EPERM, "{family}");
    }
    assert_eq!(ask("personality", [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(ask("personality", [0x0004_0000, 0, 0, 0, 0, 0]), EPERM);
    // Other architectures of the same kernel, and those of none.
    assert_eq!(run(&program, X86, number("read", 1), none), ALLOW);
    assert_eq!(run(&program, X86, number("mount", 1), none), EPERM);
    assert_eq!(run(&program, X86, number("socketcall", 1), none), ALLOW);
    assert_eq!(run(&program, X86_64, X32_BIT | 514, none), ALLOW, "x32 ioctl");
    assert_eq!(run(&program, X86_64, X32_BIT | number("mount", 2), none), EPERM);
    assert_eq!(run(&program, AARCH64, 63, none), KILL_PROCESS);
    // Calls of the future.
    for number in [467, 600, 0x3fff_ffff, X32_BIT | 600, u32::MAX] {
        assert_eq!(run(&program, X86_64, number, none), ERRNO | ENOSYS, "{number:#x}");
    }
    let privileged = ["CAP_SYS_ADMIN", "CAP_SYS_BOOT"];
    let program = default_program(&privileged, KERNEL, Arch::X86_64).unwrap();
    for allowed in ["mount", "clone3", "unshare", "reboot", "clone"] {
        assert_eq!(run(&program, X86_64, number(allowed, 0), [u64::MAX; 6]), ALLOW, "{allowed}");
    }
    assert_eq!(run(&program, X86_64, number("chroot", 0), none), EPERM);
    let old = default_program(DOCKER_CAPABILITIES, KernelVersion(4, 7), Arch::X86_64).unwrap();
    assert_eq!(run(&old, X86_64, number("ptrace", 0), none), EPERM);
    let arm = default_program(DOCKER_CAPABILITIES, KERNEL, Arch::Aarch64).unwrap();
    assert_eq!(run(&arm, AARCH64, 63, none), ALLOW, "read");
    assert_eq!(run(&arm, AARCH64, 40, none), EPERM, "mount");
    assert_eq!(run(&arm, ARM, 983_045, none), ALLOW, "set_tls");
    assert_eq!(run(&arm, ARM, 983_043, none), EPERM, "usr26");
    assert_eq!(run(&arm, X86_64, 0, none), KILL_PROCESS);
}

/// What sharing one search rests on.
#[test]
fn x32_has_the_numbers_of_x86_64_below_512() {
    for row in ROWS {
        let [x86_64, _, x32, ..] = row.numbers;
        assert!(x32 == NONE || x32 >= 512 || x32 == x86_64, "{}", row.name);
        assert!(x86_64 == NONE || x86_64 < 512, "{}", row.name);
    }
}

#[test]
fn both_ways_to_the_default_program_agree() {
    for native in [Arch::X86_64, Arch::Aarch64] {
        for capabilities in [DOCKER_CAPABILITIES, &["CAP_SYS_ADMIN", "CAP_SYS_NICE", "CAP_BPF"], &[]] {
            let quick = default_program(capabilities, KERNEL, native).unwrap();
            let slow = compile(&default_profile(capabilities, KERNEL, native), native).unwrap();
            assert_eq!(quick, slow);
        }
    }
}

/// What a profile says about one call, straight from its words.
fn judge(profile: &LinuxSeccomp, column: usize, name: &str, arguments: [u64; 6]) -> u32 {
    let code = |action, errno: Option<u32>| match action {
        Action::Allow => ALLOW,
        Action::Errno => ERRNO | errno.unwrap_or(1),
        Action::Log => 0x7ffc_0000,
        Action::KillProcess => KILL_PROCESS,
        other => panic!("{other:?}"),
    };
    let default = code(profile.default_action, profile.default_errno_ret);
    let named = |syscall: &&LinuxSyscall| {
        syscall.names.iter().any(|other| other == name) && code(syscall.action, syscall.errno_ret) != default
    };
    let met = |arg: &LinuxSeccompArg| {
        let value = arguments[arg.index as usize];
        match arg.op {
            Operator::NotEqual => value != arg.value,
            Operator::LessThan => value < arg.value,
            Operator::LessEqual => value <= arg.value,
            Operator::EqualTo => value == arg.value,
            Operator::GreaterEqual => value >= arg.value,
            Operator::GreaterThan => value > arg.value,
            Operator::MaskedEqual => value & arg.value == arg.value_two,
        }
    };
    let matches = |syscall: &&LinuxSyscall| {
        let mut indices: Vec<u32> = syscall.args.iter().map(|arg| arg.index).collect();
        indices.sort_unstable();
        indices.dedup();
        if indices.len() < syscall.args.len() { syscall.args.iter().any(met) } else { syscall.args.iter().all(met) }
    };
    let rules: Vec<&LinuxSyscall> = profile.syscalls.iter().filter(named).collect();
    let whole = rules.iter().find(|syscall| syscall.args.is_empty());
    if let Some(syscall) = whole.or_else(|| rules.iter().find(|syscall| matches(syscall))) {
        return code(syscall.action, syscall.errno_ret);
    }
    let numbers = profile.syscalls.iter().flat_map(|syscall| &syscall.names);
    // The search that x32 shares with x86_64 shares their end.
    let own = if column == 2 && number(name, column) < 512 { 0 } else { column };
    let numbers = numbers.filter_map(|name| crate::names::row(name)).map(|row| ROWS[usize::from(row)].numbers[own]);
    let highest = numbers.filter(|number| *number != NONE).max().unwrap_or(0);
    let passes = matches!(profile.default_action, Action::Allow | Action::Log);
    if number(name, column) > highest && !passes { ERRNO | ENOSYS } else { default }
}

fn an_operator() -> impl Strategy<Value = Operator> {
    use Operator::{EqualTo, GreaterEqual, GreaterThan, LessEqual, LessThan, MaskedEqual, NotEqual};
    proptest::sample::select(vec![NotEqual, LessThan, LessEqual, EqualTo, GreaterEqual, GreaterThan, MaskedEqual])
}

/// Numbers that meet at their halves.
fn a_value() -> impl Strategy<Value = u64> {
    let half = || proptest::sample::select(vec![0u64, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]);
    (half(), half()).prop_map(|(high, low)| high << 32 | low)
}

fn an_argument() -> impl Strategy<Value = LinuxSeccompArg> {
    (0u32..6, an_operator(), a_value(), a_value()).prop_map(|(index, op, value, value_two)| LinuxSeccompArg {
        index,
        value,
        value_two,
        op,
    })
}

fn a_rule() -> impl Strategy<Value = LinuxSyscall> {
    let actions = vec![Action::Allow, Action::Errno, Action::Log, Action::KillProcess];
    let name = proptest::sample::select(ROWS.iter().map(|row| row.name).collect::<Vec<_>>());
    let names = proptest::collection::vec(name, 1..40);
    let args = proptest::collection::vec(an_argument(), 0..4);
    (names, proptest::sample::select(actions), proptest::option::of(0u32..200), args).prop_map(
        |(names, action, errno_ret, args)| LinuxSyscall {
            names: names.into_iter().map(str::to_owned).collect(),
            action,
            errno_ret,
            args,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_profile_means_what_it_says(
        rules in proptest::collection::vec(a_rule(), 0..12),
        default in proptest::sample::select(vec![Action::Allow, Action::Errno, Action::KillProcess]),
        arguments in proptest::array::uniform6(a_value()),
    ) {
        let profile = profile(default, rules);
        let program = match compile(&profile, Arch::X86_64) {
            Ok(program) => program,
            Err(Error::TooLong(_)) => return Ok(()),
            Err(error) => panic!("{error}"),
        };
        for row in ROWS {
            for (column, arch, base) in [(0, X86_64, 0), (2, X86_64, X32_BIT), (1, X86, 0)] {
                // socketcall and ipc stand for other calls too.
                if row.numbers[column] != NONE && row.name != "socketcall" && row.name != "ipc" {
                    let answer = run(&program, arch, base | row.numbers[column], arguments);
                    prop_assert_eq!(answer, judge(&profile, column, row.name, arguments), "{} {}", row.name, column);
                }
            }
        }
    }

    #[test]
    fn no_profile_makes_it_panic(json in "\\PC{0,200}", errno in any::<u32>(), index in any::<u32>(), value in any::<u64>()) {
        drop(serde_json::from_str::<LinuxSeccomp>(&json));
        drop(crate::from_docker(&json, &["CAP_SYS_ADMIN"], KERNEL, Arch::X86_64));
        let mut syscall = rule(&["read", &json], Action::Errno, &[(index, Operator::MaskedEqual, value, value)]);
        syscall.errno_ret = Some(errno);
        for native in [Arch::X86_64, Arch::Aarch64, Arch::Mips] {
            drop(compile(&profile(Action::Allow, vec![syscall.clone()]), native));
        }
    }
}

#[test]
fn socketcall_follows_the_calls_that_it_stands_for() {
    let program =
        compile(&profile(Action::Allow, vec![rule(&["socket", "shmget"], Action::Errno, &[])]), Arch::X86_64).unwrap();
    let ask = |name, first| run(&program, X86, number(name, 1), [first, 0, 0, 0, 0, 0]);
    assert_eq!(ask("socket", 0), EPERM);
    assert_eq!((ask("socketcall", 1), ask("socketcall", 2)), (EPERM, ALLOW));
    assert_eq!((ask("ipc", 23), ask("ipc", 0x1_0017), ask("ipc", 24)), (EPERM, EPERM, ALLOW));
}

#[test]
fn without_x32_its_calls_are_fatal_and_a_suppressed_one_is_not() {
    let mut only = profile(Action::Errno, vec![rule(&["read"], Action::Allow, &[])]);
    only.architectures.clear();
    let program = compile(&only, Arch::X86_64).unwrap();
    assert_eq!(run(&program, X86_64, 0, [0; 6]), ALLOW);
    assert_eq!(run(&program, X86_64, X32_BIT, [0; 6]), KILL_PROCESS);
    assert_eq!(run(&program, X86_64, u32::MAX, [0; 6]), EPERM);
    assert_eq!(run(&program, X86, 3, [0; 6]), KILL_PROCESS);
}

#[test]
fn errors_and_flags() {
    let compiled = |syscall| compile(&profile(Action::Errno, vec![syscall]), Arch::X86_64);
    assert!(matches!(
        compiled(rule(&["read"], Action::Allow, &[(6, Operator::EqualTo, 0, 0)])),
        Err(Error::Argument { .. })
    ));
    assert!(matches!(compiled(rule(&["write"], Action::Notify, &[])), Err(Error::Notify(_))));
    assert!(matches!(compile(&profile(Action::Notify, vec![]), Arch::X86_64), Err(Error::Notify(_))));
    assert!(matches!(compile(&profile(Action::Allow, vec![]), Arch::S390x), Err(Error::Architecture(_))));
    let program = compiled(rule(&["mount"], Action::Notify, &[])).unwrap();
    assert!(program.has_listener());
    assert_eq!(run(&program, X86_64, number("mount", 0), [0; 6]), 0x7fc0_0000);
    let long: Vec<LinuxSyscall> =
        (0..2000).map(|v| rule(&["ioctl"], Action::Allow, &[(1, Operator::EqualTo, v, 0)])).collect();
    assert!(matches!(compile(&profile(Action::Errno, long), Arch::X86_64), Err(Error::TooLong(_))));
    let many: Vec<LinuxSyscall> =
        (0..300).map(|v| rule(&["ioctl"], Action::Allow, &[(1, Operator::EqualTo, v * 2, 0)])).collect();
    let program = compile(&profile(Action::Errno, many), Arch::X86_64).unwrap();
    for value in 0..700u64 {
        let expected = if value < 600 && value.is_multiple_of(2) { ALLOW } else { EPERM };
        assert_eq!(run(&program, X86_64, 16, [0, value, 0, 0, 0, 0]), expected, "{value}");
    }
}

/// `cargo test -p seccomp -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "a measurement prints")]
fn measure() {
    let median = |work: &dyn Fn()| {
        let mut times: Vec<_> = (0..1001)
            .map(|_| {
                let start = std::time::Instant::now();
                work();
                start.elapsed()
            })
            .collect();
        times.sort();
        times[500]
    };
    let document = default_profile(DOCKER_CAPABILITIES, KERNEL, Arch::X86_64);
    let program = default_program(DOCKER_CAPABILITIES, KERNEL, Arch::X86_64).unwrap();
    let text = serde_json::to_string(&program).unwrap();
    println!(
        "default program: {:?}, {} instructions; default profile: {:?}, compiled: {:?}; as text {} bytes: {:?}, back: {:?}",
        median(&|| drop(default_program(DOCKER_CAPABILITIES, KERNEL, Arch::X86_64))),
        program.instructions.len(),
        median(&|| drop(default_profile(DOCKER_CAPABILITIES, KERNEL, Arch::X86_64))),
        median(&|| drop(compile(&document, Arch::X86_64))),
        text.len(),
        median(&|| drop(serde_json::to_string(&program))),
        median(&|| drop(serde_json::from_str::<Program>(&text))),
    );
}

/// The kernel's own opinion. perl can make any system call, and is on every Debian machine.
#[test]
fn the_kernel_takes_the_default_program_and_obeys() {
    if std::env::consts::ARCH != "x86_64" || !std::path::Path::new("/usr/bin/perl").exists() {
        #[allow(clippy::print_stdout, reason = "a test says why it is skipped")]
        {
            println!("SKIP: needs x86_64 and /usr/bin/perl");
        }
        return;
    }
    let program = default_program(DOCKER_CAPABILITIES, KERNEL, Arch::X86_64).unwrap();
    let hex: String = program.instructions.iter().flatten().map(|byte| format!("{byte:02x}")).collect();
    // prctl(PR_SET_NO_NEW_PRIVS), seccomp(SECCOMP_SET_MODE_FILTER, 0, {len, filter}); then calls with known answers.
    let script = r#"
        my $code = pack("H*", $ARGV[0]);
        my $filter = pack("S x6 P", length($code) / 8, $code);
        syscall(157, 38, 1, 0, 0, 0) == 0 or die "prctl $!";
        syscall(317, 1, 0, $filter) == 0 or die "seccomp $!";
        sub errno { my $number = shift; my $r = syscall($number, @_); return $r == -1 ? $! + 0 : 0 }
        print join(" ", errno(272, 0), errno(435, 0, 0), errno(41, 38, 5, 0), errno(41, 1, 1, 0), errno(39), errno(468),
            errno(1000), errno(135, 0xffffffff), errno(135, 0x40000)), "\n";
    "#;
    let output = std::process::Command::new("/usr/bin/perl").args(["-e", script, &hex]).output().unwrap();
    // unshare, clone3, socket(AF_ALG), socket(AF_UNIX), getpid, file_getattr, none, personality twice.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 38 1 0 0 38 38 0 1\n", "{output:?}");
}
