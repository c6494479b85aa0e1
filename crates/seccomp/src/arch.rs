//! Architectures that the kernel of this program can run calls of.

use oci::runtime::Arch;

/// A column of the table of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    X86_64 = 0,
    X86 = 1,
    X32 = 2,
    Aarch64 = 3,
    Arm = 4,
}

/// Set in the numbers of x32, which has the audit architecture of x86_64 (`__X32_SYSCALL_BIT`).
pub(crate) const X32_BIT: u32 = 0x4000_0000;

impl Column {
    /// `None` for processors whose programs no supported kernel can run: rules for them are without effect.
    pub(crate) fn of(arch: Arch) -> Option<Column> {
        match arch {
            Arch::X86_64 => Some(Column::X86_64),
            Arch::X86 => Some(Column::X86),
            Arch::X32 => Some(Column::X32),
            Arch::Aarch64 => Some(Column::Aarch64),
            Arch::Arm => Some(Column::Arm),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_…` of linux/audit.h, which the filter sees.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Column::X86_64 | Column::X32 => 0xc000_003e,
            Column::X86 => 0x4000_0003,
            Column::Aarch64 => 0xc000_00b7,
            Column::Arm => 0x4000_0028,
        }
    }

    /// What a kernel of this architecture can run besides its own programs.
    pub(crate) fn secondary(self) -> &'static [Arch] {
        match self {
            Column::X86_64 => &[Arch::X86, Arch::X32],
            Column::Aarch64 => &[Arch::Arm],
            Column::X86 | Column::X32 | Column::Arm => &[],
        }
    }
}

/// The architecture of this program, and so of the processes that it starts; `None` if it is not supported.
pub fn native() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86_64),
        "aarch64" => Some(Arch::Aarch64),
        _ => None,
    }
}
