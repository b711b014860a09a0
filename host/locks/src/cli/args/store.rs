//! The options that choose a store and log in to it.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::parse::{connect_timeout, session_timeout};
use lockkeeper_coordination::zookeeper::{Acl, Hosts, Secret};

/// The options that choose a store and log in to it. The environment is not read by clap: a job counts before it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Store options")]
pub struct StoreFlags {
    /// Embedded store in this file on a local disk, which any number of processes can share [default: `store.db` in the state
    /// folder] [env: LOCKKEEPER_STORE].
    #[arg(long, global = true, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// ZooKeeper servers, and the node that all paths are below: `zk1:2181,zk2:2181/fleet` [env: LOCKKEEPER_ZK_HOSTS].
    #[arg(long, global = true, value_name = "HOSTS", alias = "zk_hosts", value_parser = Hosts::parse)]
    pub zk_hosts: Option<Hosts>,
    /// Profile of the configuration file: servers, login and the other options under one name [env: LOCKKEEPER_PROFILE].
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Configuration file with profiles [default: `lockkeeper/config.toml` in your configuration folder, such as `~/.config`]
    /// [env: LOCKKEEPER_CONFIG].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Authentication scheme of ZooKeeper [default: digest, if there is a username].
    #[arg(long, global = true, value_name = "SCHEME")]
    pub scheme: Option<String>,
    /// Username to authenticate as [env: LOCKKEEPER_USERNAME].
    #[arg(long, global = true, value_name = "NAME")]
    pub username: Option<String>,
    /// Password to authenticate with, hidden from the process list at once; a file or the environment also keeps it out of the
    /// shell's history [env: LOCKKEEPER_PASSWORD].
    #[arg(long, global = true, value_name = "PASSWORD")]
    pub password: Option<String>,
    /// File that contains the password and nothing else [env: LOCKKEEPER_PASSWORD_FILE].
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// File descriptor from which the password can be read once: see `argv_secret.rs`.
    #[arg(long, global = true, value_name = "FD", hide = true)]
    pub password_fd: Option<RawFd>,
    /// The password that was read there.
    #[arg(skip)]
    pub secret: Option<Secret>,
    /// Access control of new nodes, as zkCli writes it: `auth::cdrwa` grants everything to this login, `world:anyone:r` lets
    /// every client read [default: world:anyone:cdrwa].
    #[arg(long, global = true, value_name = "ACL", alias = "default_acl", value_parser = Acl::parse)]
    pub default_acl: Option<Acl>,
    /// Time after which the store ends a silent session and deletes its ephemeral leases and members, from 1s to 1h [default:
    /// 10s].
    #[arg(long, global = true, value_name = "DURATION", value_parser = session_timeout)]
    pub session_timeout: Option<Duration>,
    /// Time to try the servers before the command fails, at most 1h [default: 15s].
    #[arg(long, global = true, value_name = "DURATION", value_parser = connect_timeout)]
    pub connect_timeout: Option<Duration>,
    /// CA certificate bundle (PEM); enables TLS.
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Client certificate (PEM), if the servers require one.
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the client certificate.
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}
