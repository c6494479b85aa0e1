//! From v1's scales, which the runtime specification uses, to v2's. Pure.

/// `cpu.shares` (2 to 262144, default 1024) to `cpu.weight` (1 to 10000, default 100).
///
/// The curve is the one that runc 1.4 and crun 1.24 use (and Kubernetes with them): it maps both ends and the default
/// exactly: `ceil(10 ^ ((l² + 125·l) / 612 − 7/34))` with `l = log2(shares)`. The straight line used before gave the
/// default share a weight of 39, so that a container lost against every group that had v2's own default.
pub(crate) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[allow(clippy::cast_precision_loss, reason = "below 2^18")]
            let l = (shares as f64).log2();
            let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0);
            // The default's exponent is exactly 2, which floating point can miss by a little on either side.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 10000")]
            let weight = (weight - 1e-6).ceil() as u64;
            weight.clamp(1, 10_000)
        }
    }
}

/// `blkio.weight` (10 to 1000) to `io.weight` (1 to 10000): the straight line between the ends.
pub(crate) fn io_weight(weight: u16) -> u64 {
    let weight = u64::from(weight.clamp(10, 1000));
    1 + (weight - 10) * 9_999 / 990
}

/// An amount where a negative number means unlimited, as v2 writes it.
pub(crate) fn or_max(amount: i64) -> String {
    if amount < 0 { "max".to_owned() } else { amount.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_and_the_default_are_exact() {
        for (shares, weight) in
            [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000), (512, 59), (2048, 174)]
        {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        let mut last = 0;
        for shares in 2..=262_144 {
            let weight = cpu_weight(shares);
            assert!(weight >= last, "not monotonous at {shares}");
            last = weight;
        }
        assert_eq!((io_weight(10), io_weight(1000), io_weight(500)), (1, 10_000, 4950));
    }
}
