//! AMX: tiles of 16 rows of 64 bytes. The compiler's intrinsics are not stable, so this is assembly.

use std::arch::asm;
use std::sync::OnceLock;

use super::pairs::{PAIR_COLUMNS, PAIR_DEPTH, PAIR_ROWS};

/// Shapes of the tiles, as `ldtilecfg` reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight are whole.
static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

// Three tiles of rows, two of columns, 16 pairs deep.
const _: () = assert!(PAIR_ROWS == 48 && PAIR_COLUMNS == 32 && PAIR_DEPTH == 16);

/// [`super::Lanes::pairs`] in tiles: `tmm0` to `tmm5` are the sums, `tmm6` the columns, `tmm7` the rows.
///
/// # Safety
/// Those of `Lanes::pairs`, and the machine has AMX with bf16.
pub(super) unsafe fn pairs(
    depth: usize,
    (a, a_stride): (*const u32, usize),
    b: *const u32,
    (c, c_stride): (*mut f32, usize),
) {
    // SAFETY: the tiles lie inside of the three matrices: rows 0, 16 and 32, columns 0 and 16, and as many steps as
    // there are 16 pairs. The tiles are released, so no state is left.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tileloadd tmm0, [{c0} + {c_stride}]",
            "tileloadd tmm1, [{c0} + {c_stride} + 64]",
            "tileloadd tmm2, [{c1} + {c_stride}]",
            "tileloadd tmm3, [{c1} + {c_stride} + 64]",
            "tileloadd tmm4, [{c2} + {c_stride}]",
            "tileloadd tmm5, [{c2} + {c_stride} + 64]",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "tileloadd tmm6, [{b} + {b_stride}]",
            "tileloadd tmm7, [{a0} + {a_stride}]",
            "tdpbf16ps tmm0, tmm7, tmm6",
            "tileloadd tmm7, [{a1} + {a_stride}]",
            "tdpbf16ps tmm2, tmm7, tmm6",
            "tileloadd tmm7, [{a2} + {a_stride}]",
            "tdpbf16ps tmm4, tmm7, tmm6",
            "tileloadd tmm6, [{b} + {b_stride} + 64]",
            "tdpbf16ps tmm5, tmm7, tmm6",
            "tileloadd tmm7, [{a1} + {a_stride}]",
            "tdpbf16ps tmm3, tmm7, tmm6",
            "tileloadd tmm7, [{a0} + {a_stride}]",
            "tdpbf16ps tmm1, tmm7, tmm6",
            "add {a0}, 64",
            "add {a1}, 64",
            "add {a2}, 64",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            "3:",
            "tilestored [{c0} + {c_stride}], tmm0",
            "tilestored [{c0} + {c_stride} + 64], tmm1",
            "tilestored [{c1} + {c_stride}], tmm2",
            "tilestored [{c1} + {c_stride} + 64], tmm3",
            "tilestored [{c2} + {c_stride}], tmm4",
            "tilestored [{c2} + {c_stride} + 64], tmm5",
            "tilerelease",
            shapes = in(reg) &raw const SHAPES,
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.add(16 * a_stride) => _,
            a2 = inout(reg) a.add(32 * a_stride) => _,
            a_stride = in(reg) 4 * a_stride,
            b = inout(reg) b => _,
            b_stride = in(reg) 4 * PAIR_COLUMNS,
            c0 = in(reg) c,
            c1 = in(reg) c.add(16 * c_stride),
            c2 = in(reg) c.add(32 * c_stride),
            c_stride = in(reg) 4 * c_stride,
            steps = inout(reg) depth / PAIR_DEPTH => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// `rounds` rounds of four products of whole tiles of zeros; gives the operations of a round.
///
/// # Safety
/// The machine has AMX with bf16.
pub(super) unsafe fn peak(rounds: usize) -> f64 {
    // SAFETY: nothing but the shapes is read.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "2:",
            "tdpbf16ps tmm0, tmm6, tmm7",
            "tdpbf16ps tmm1, tmm6, tmm7",
            "tdpbf16ps tmm2, tmm6, tmm7",
            "tdpbf16ps tmm3, tmm6, tmm7",
            "dec {rounds}",
            "jnz 2b",
            "tilerelease",
            shapes = in(reg) &raw const SHAPES,
            rounds = inout(reg) rounds.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    (4 * 2 * 16 * 16 * 32) as f64
}

/// Whether the processor has AMX with bf16 and the system lets this process use it, which is asked once.
pub(crate) fn is_granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| processor_has_it() && system_grants_it())
}

fn processor_has_it() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    /// # Safety
    /// The processor has XSAVE, and the system has turned it on.
    #[target_feature(enable = "xsave")]
    unsafe fn states() -> u64 {
        // SAFETY: the caller's.
        unsafe { _xgetbv(0) }
    }

    const OSXSAVE: u32 = 1 << 27;
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    const CONFIG_AND_DATA: u64 = 1 << 17 | 1 << 18;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let has = __cpuid_count(7, 0).edx & BF16_AND_TILE == BF16_AND_TILE;
    // SAFETY: OSXSAVE says so.
    has && unsafe { states() } & CONFIG_AND_DATA == CONFIG_AND_DATA
}

#[cfg(target_os = "linux")]
fn system_grants_it() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: this call writes no memory; the kernel overwrites rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inout("rax") result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn system_grants_it() -> bool {
    false
}
