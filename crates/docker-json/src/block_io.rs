//! Limits of block devices, as `HostConfig` has them.

use serde::Serialize;

/// Limits of block devices.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BlockIo {
    blkio_weight: u16,
    blkio_weight_device: Vec<DeviceWeight>,
    blkio_device_read_bps: Vec<DeviceRate>,
    blkio_device_write_bps: Vec<DeviceRate>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Vec<DeviceRate>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Vec<DeviceRate>,
}

/// Docker's view of them.
pub(crate) fn block_io(limits: &engine::IoLimits) -> BlockIo {
    let weight = |(path, weight): &(String, u16)| DeviceWeight { path: path.clone(), weight: *weight };
    BlockIo {
        blkio_weight: limits.weight.unwrap_or(0),
        blkio_weight_device: limits.weights.iter().map(weight).collect(),
        blkio_device_read_bps: rates(&limits.read_bytes),
        blkio_device_write_bps: rates(&limits.write_bytes),
        blkio_device_read_iops: rates(&limits.read_operations),
        blkio_device_write_iops: rates(&limits.write_operations),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceWeight {
    path: String,
    weight: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceRate {
    path: String,
    rate: u64,
}

fn rates(list: &[(String, u64)]) -> Vec<DeviceRate> {
    list.iter().map(|(path, rate)| DeviceRate { path: path.clone(), rate: *rate }).collect()
}
