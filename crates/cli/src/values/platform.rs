//! `--platform` of verbs that pick among the images that there are.

use crate::failure::Failure;
use engine::Image;
use oci::platform::Platform;

/// Reads a platform.
pub fn parse(text: &str) -> Result<Platform, Failure> {
    text.parse().map_err(|error| Failure::caused(format!("invalid platform {text:?}"), error))
}

/// Refuses an image of another platform: each image here has one.
pub fn check(image: &Image, name: &str, wanted: &[Platform]) -> Result<(), Failure> {
    let own = format!("{}/{}", image.config.platform.os, image.config.platform.architecture);
    let fits = |platform: &Platform| {
        platform.os == image.config.platform.os && platform.architecture == image.config.platform.architecture
    };
    match wanted.iter().any(fits) {
        true => Ok(()),
        false => Err(Failure::new(format!("image {name} is for {own} and for no other platform"))),
    }
}
