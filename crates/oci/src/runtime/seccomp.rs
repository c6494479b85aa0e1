//! `linux.seccomp`: which system calls a container may make (OCI runtime specification 1.3, config-linux.md, "Seccomp").
//!
//! Names of actions, operators, architectures and flags are closed lists: a profile with an unknown one is refused when
//! it is parsed, since ignoring a word of a security profile would weaken it silently. System call names stay strings:
//! a profile may name calls of other architectures and of later kernels.

use serde::{Deserialize, Deserializer, Serialize};

/// Go's programs write `null` for an empty list.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A system call filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSeccomp {
    /// What happens to a call that no rule names.
    pub default_action: LinuxSeccompAction,
    /// The errno of that action, `EPERM` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The architectures whose calls are filtered by the rules; the native one is always among them.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Arch>,
    /// Flags for seccomp(2); that there are none is another thing than an empty list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<LinuxSeccompFlag>>,
    /// The socket of the program that answers `SCMP_ACT_NOTIFY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// Opaque text for that program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<LinuxSyscall>,
}

/// One rule: these calls, if all arguments match, meet this action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSyscall {
    /// Names of system calls; those that an architecture does not have are without effect there.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub names: Vec<String>,
    /// What happens.
    pub action: LinuxSeccompAction,
    /// The errno of `SCMP_ACT_ERRNO` or the message of `SCMP_ACT_TRACE`; `EPERM` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions, all of which must hold.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<LinuxSeccompArg>,
}

/// A condition on one argument, compared as an unsigned 64-bit number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSeccompArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; for `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ` what the masked argument is compared with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value_two: u64,
    /// How it is compared.
    pub op: LinuxSeccompOperator,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What a filter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinuxSeccompAction {
    /// Ends the thread; the older name of [`LinuxSeccompAction::KillThread`].
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// Ends the process with `SIGSYS`.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Ends the thread with `SIGSYS`.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Sends `SIGSYS`, which can be caught.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// The call fails with an errno.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// A tracer decides.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// The call is made.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// The call is made and logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// A supervising program answers (Linux 5.0).
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinuxSeccompOperator {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    LessThan,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    LessEqual,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    EqualTo,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterEqual,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    GreaterThan,
    /// Equal after masking: `argument & value == value_two`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// A flag for seccomp(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinuxSeccompFlag {
    /// All threads of the process get the filter.
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    /// Everything but allow is logged (Linux 4.14).
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    /// Without the speculative store bypass mitigation (Linux 4.17).
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    /// A call that waits for its supervisor can only be killed, not interrupted (Linux 5.19).
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}

macro_rules! architectures {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// An architecture, by libseccomp's name for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "the names of processors explain themselves")]
        pub enum Arch {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Arch {
            /// The name in the document, `SCMP_ARCH_…`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Arch::$name => $text,)*
                }
            }
        }
    };
}

architectures! {
    /// 32-bit x86.
    X86 = "SCMP_ARCH_X86",
    X86_64 = "SCMP_ARCH_X86_64",
    /// 64-bit x86 with 32-bit pointers.
    X32 = "SCMP_ARCH_X32",
    Arm = "SCMP_ARCH_ARM",
    Aarch64 = "SCMP_ARCH_AARCH64",
    Mips = "SCMP_ARCH_MIPS",
    Mips64 = "SCMP_ARCH_MIPS64",
    Mips64n32 = "SCMP_ARCH_MIPS64N32",
    Mipsel = "SCMP_ARCH_MIPSEL",
    Mipsel64 = "SCMP_ARCH_MIPSEL64",
    Mipsel64n32 = "SCMP_ARCH_MIPSEL64N32",
    Ppc = "SCMP_ARCH_PPC",
    Ppc64 = "SCMP_ARCH_PPC64",
    Ppc64le = "SCMP_ARCH_PPC64LE",
    S390 = "SCMP_ARCH_S390",
    S390x = "SCMP_ARCH_S390X",
    Parisc = "SCMP_ARCH_PARISC",
    Parisc64 = "SCMP_ARCH_PARISC64",
    Riscv64 = "SCMP_ARCH_RISCV64",
    Loongarch64 = "SCMP_ARCH_LOONGARCH64",
    M68k = "SCMP_ARCH_M68K",
    Sh = "SCMP_ARCH_SH",
    Sheb = "SCMP_ARCH_SHEB",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_specification() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
            "flags":["SECCOMP_FILTER_FLAG_LOG"],"listenerPath":"/run/x","listenerMetadata":"m","syscalls":[
            {"names":["clone"],"action":"SCMP_ACT_ALLOW","errnoRet":5,
            "args":[{"index":0,"value":2114060288,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let compact: String = text.split_whitespace().collect();
        let parsed: LinuxSeccomp = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), compact);
    }

    #[test]
    fn an_unknown_word_is_refused_and_null_is_empty() {
        assert!(serde_json::from_str::<LinuxSeccomp>(r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#).is_err());
        assert!(serde_json::from_str::<LinuxSeccomp>(r#"{"syscalls":[]}"#).is_err(), "a default is obligatory");
        let parsed: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":null,"syscalls":[{"names":null,"action":"SCMP_ACT_LOG","args":null}]}"#,
        )
        .unwrap();
        assert!(parsed.architectures.is_empty() && parsed.flags.is_none() && parsed.syscalls[0].args.is_empty());
        assert_eq!(Arch::X32.name(), "SCMP_ARCH_X32");
    }
}
