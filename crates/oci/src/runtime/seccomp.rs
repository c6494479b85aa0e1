//! System call filter (config-linux.md, "Seccomp").

use serde::{Deserialize, Serialize};

use super::null_is_default;

/// System call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxSeccomp {
    /// Name such as `SCMP_ACT_ERRNO`.
    pub default_action: String,
    /// Number for the default action when that is an errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Names such as `SCMP_ARCH_X86_64`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub architectures: Vec<String>,
    /// Names such as `SECCOMP_FILTER_FLAG_LOG`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub flags: Vec<String>,
    /// Unix socket that gets the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// Opaque text for that socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// Rules.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub syscalls: Vec<LinuxSyscall>,
}

/// Rule for some system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxSyscall {
    /// Names.
    pub names: Vec<String>,
    /// Name such as `SCMP_ACT_ALLOW`.
    pub action: String,
    /// Number when the action is an errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// All must hold.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub args: Vec<LinuxSeccompArg>,
}

/// Comparison of one argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxSeccompArg {
    /// Position, 0 to 5.
    pub index: u32,
    /// First operand.
    pub value: u64,
    /// Second operand of `SCMP_CMP_MASKED_EQ`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_two: Option<u64>,
    /// Name such as `SCMP_CMP_EQ`.
    pub op: String,
}
