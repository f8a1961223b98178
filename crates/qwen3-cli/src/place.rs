//! Where a model computes: on one device, or with its layers on several (`--device-map`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use burn::tensor::{DType, Device};
use qwen3_command::printable;
use qwen3_import::read_device_map;
use qwen3_model::{DeviceMap, DeviceMapFile, DeviceName, Extent, Precision, Qwen3, Qwen3Config, burn_dtype};
use qwen3_trace::Backend;

use crate::device::{self, DeviceArgs};
use crate::failure::{Blame, bad_input};
use crate::files::Files;
use crate::model;

/// What the name of a device of another process begins with.
const REMOTE: &str = "remote:";

/// Where and in what a model computes.
#[derive(clap::Args, Debug)]
pub struct PlaceArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// A JSON file that says which layers lie on which device, in place of --backend
    ///
    /// Layers by their numbers: {"devices": [{"device": "flex", "layers": [0, 13]}, {"device":
    /// "remote:10.0.0.2:3000", "layers": [14, 27]}]}. Or filled in this order, by bytes of memory:
    /// {"context": 4096, "devices": [{"device": "cuda:0", "memory": 8000000000}, {"device": "flex",
    /// "memory": 16000000000}]}. A device is a backend, `cuda:N`, or `remote:HOST:PORT` or
    /// `remote:HOST:PORT/N`, where `qwen3 serve-device` runs.
    #[arg(long, value_name = "FILE", conflicts_with = "backend")]
    device_map: Option<PathBuf>,
}

impl PlaceArgs {
    /// Opens the one device, or reads the map.
    ///
    /// # Errors
    /// When there is no such device here, or the file is not a device map.
    pub fn read(&self) -> Result<Plan> {
        let dtype = self.device.dtype();
        let Some(file) = &self.device_map else {
            return Ok(Plan { dtype, devices: Devices::One(self.device.device()?.0) });
        };
        let map = read_device_map(file).bad_input()?;
        Ok(Plan { dtype, devices: Devices::Mapped(file.clone(), map) })
    }
}

impl PlaceArgs {
    /// What that is called: `flex in f32`, or a device map's file.
    ///
    /// # Errors
    /// When no backend is named and none is in this build.
    pub fn name(&self) -> Result<String> {
        let place = match &self.device_map {
            Some(file) => printable(&file.display().to_string()).into_owned(),
            None => self.device.backend()?.to_string(),
        };
        Ok(format!("{place} in {}", self.device.dtype()))
    }
}

/// Where a model is to compute.
pub struct Plan {
    dtype: Precision,
    devices: Devices,
}

enum Devices {
    One(Device),
    Mapped(PathBuf, DeviceMapFile),
}

impl Plan {
    /// The devices for so much of a model of this config, of which at most `chunk` tokens are read at a time.
    ///
    /// # Errors
    /// When the map is not of this model, or a device cannot be opened.
    pub fn open(self, config: &Qwen3Config, extent: Extent, chunk: usize) -> Result<Place> {
        let dtype = burn_dtype(self.dtype);
        let map = match self.devices {
            Devices::One(device) => DeviceMap::whole(device, config.num_hidden_layers),
            Devices::Mapped(file, map) => {
                let name = file.display().to_string();
                let map = map.place(config, extent, self.dtype, 1, chunk);
                let map = map.with_context(|| name.clone()).bad_input()?;
                map.try_map(|device| open(&file, &device, self.dtype))?
            }
        };
        Ok(Place { map, dtype, extent })
    }
}

/// Where a model computes, and how much of it.
pub struct Place {
    map: DeviceMap,
    dtype: DType,
    extent: Extent,
}

impl Place {
    /// The model of `files`, with a progress bar.
    ///
    /// # Errors
    /// When the files are not sound, or a whole model has no head.
    pub fn load(&self, files: &Files) -> Result<Qwen3> {
        model::weights(files, self.extent, &self.map, self.dtype)
    }
}

/// The device that `file` names.
fn open(file: &Path, DeviceName { field, name }: &DeviceName, dtype: Precision) -> Result<Device> {
    let named = |error: Error| error.context(format!("{}: `{field}` is `{name}`", file.display()));
    if let Some(address) = name.strip_prefix(REMOTE) {
        return remote(address, name, dtype).map_err(named);
    }
    let local = || {
        let (backend, index) = match name.split_once(':') {
            Some((backend, index)) => (backend, index.parse().ok()),
            None => (&name[..], Some(0)),
        };
        match (Backend::parse(backend), index) {
            (Some(backend), Some(index)) => device::open(backend, index, dtype),
            _ => Err(bad_input(
                "no such device: a backend, `cuda:N`, `remote:HOST:PORT` or `remote:HOST:PORT/N`",
            )),
        }
    };
    local().map_err(named)
}

#[cfg(feature = "remote")]
use crate::remote::open as remote;

#[cfg(not(feature = "remote"))]
fn remote(_: &str, _: &str, _: Precision) -> Result<Device> {
    Err(device::not_built("remote"))
}
