//! The flags that limit block devices.

use crate::values::size;
use clap::Args;
use engine::IoLimits;

/// `--blkio-weight`, `--device-read-bps` and their like.
#[derive(Args, Debug, Default)]
pub struct IoFlags {
    /// Relative weight of block devices (10 to 1000, or 0 for none)
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Relative weight of one block device (PATH:WEIGHT)
    #[arg(long, value_name = "list", value_parser = weight)]
    blkio_weight_device: Vec<(String, u16)>,
    /// Bytes per second read from a device (PATH:RATE)
    #[arg(long, value_name = "list", value_parser = bytes)]
    device_read_bps: Vec<(String, u64)>,
    /// Operations per second read from a device (PATH:RATE)
    #[arg(long, value_name = "list", value_parser = operations)]
    device_read_iops: Vec<(String, u64)>,
    /// Bytes per second written to a device (PATH:RATE)
    #[arg(long, value_name = "list", value_parser = bytes)]
    device_write_bps: Vec<(String, u64)>,
    /// Operations per second written to a device (PATH:RATE)
    #[arg(long, value_name = "list", value_parser = operations)]
    device_write_iops: Vec<(String, u64)>,
}

impl IoFlags {
    /// The engine's limits.
    pub fn limits(&self) -> IoLimits {
        IoLimits {
            weight: self.blkio_weight.filter(|weight| *weight != 0),
            weights: self.blkio_weight_device.clone(),
            read_bytes: self.device_read_bps.clone(),
            write_bytes: self.device_write_bps.clone(),
            read_operations: self.device_read_iops.clone(),
            write_operations: self.device_write_iops.clone(),
        }
    }
}

fn device(text: &str) -> Result<(String, &str), String> {
    match text.rsplit_once(':') {
        Some((path, value)) if path.starts_with("/dev/") => Ok((path.to_owned(), value)),
        _ => Err(format!("bad format for device path: {text}: expected /dev/NAME:VALUE")),
    }
}

fn weight(text: &str) -> Result<(String, u16), String> {
    let (path, value) = device(text)?;
    let weight = value.parse().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight));
    Ok((path, weight.ok_or_else(|| format!("invalid weight for device: {text}"))?))
}

fn bytes(text: &str) -> Result<(String, u64), String> {
    let (path, value) = device(text)?;
    let rate = size::parse(value);
    Ok((path, rate.map_err(|_| format!("invalid rate for device: {text}: expected PATH:NUMBER[kb|mb|gb]"))?))
}

fn operations(text: &str) -> Result<(String, u64), String> {
    let (path, value) = device(text)?;
    Ok((path, value.parse().map_err(|_| format!("invalid rate for device: {text}: expected PATH:NUMBER"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_values() {
        assert_eq!(bytes("/dev/sda:1mb"), Ok(("/dev/sda".into(), 1 << 20)));
        assert_eq!(operations("/dev/sda:100"), Ok(("/dev/sda".into(), 100)));
        assert_eq!(weight("/dev/disk/by-id/a:b:200"), Ok(("/dev/disk/by-id/a:b".into(), 200)));
        for wrong in ["sda:1", "/dev/sda", "/dev/sda:x"] {
            assert!(bytes(wrong).is_err() && operations(wrong).is_err() && weight(wrong).is_err(), "{wrong}");
        }
        assert!(weight("/dev/sda:5").is_err());
    }
}
