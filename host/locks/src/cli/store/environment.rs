//! The environment variables that choose a store.

use std::env;
use std::path::PathBuf;

use super::bad;
use crate::cli::exit::{ErrorKind, Failure};
use lockkeeper_coordination::zookeeper::Hosts;

/// The variables that choose a store or log in to it; an empty variable counts as unset.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) store: Option<PathBuf>,
    pub(super) zk_hosts: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) config: Option<PathBuf>,
    pub(super) system: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
}

impl Environment {
    pub(super) fn read() -> Result<Self, Failure> {
        let variable = |name: &str| match env::var(name) {
            Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(bad(format!("{name} is not UTF-8"))),
        };
        let file = |name: &str| env::var_os(name).filter(|file| !file.is_empty()).map(PathBuf::from);
        Ok(Self {
            store: file("LOCKKEEPER_STORE"),
            zk_hosts: variable("LOCKKEEPER_ZK_HOSTS")?,
            profile: variable("LOCKKEEPER_PROFILE")?,
            config: file("LOCKKEEPER_CONFIG"),
            system: file("LOCKKEEPER_SYSTEM_CONFIG"),
            username: variable("LOCKKEEPER_USERNAME")?,
            password_file: file("LOCKKEEPER_PASSWORD_FILE"),
        })
    }

    pub(super) fn hosts(&self) -> Result<Option<Hosts>, Failure> {
        let hosts = self.zk_hosts.as_deref().map(Hosts::parse).transpose();
        hosts.map_err(|error| {
            Failure::new(ErrorKind::BadArgument, anyhow::Error::new(error).context("LOCKKEEPER_ZK_HOSTS"))
        })
    }
}
