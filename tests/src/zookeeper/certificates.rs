//! Certificates: an authority, what it has signed, and an unrelated authority; created for each server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::said;

/// PEM files for a server and its clients.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Creates them; the server's certificate is for `names`.
    ///
    /// # Panics
    /// Without the `openssl` command.
    pub(super) fn make(folder: &Path, names: &[String]) -> Self {
        let certificates = Self { folder: folder.to_owned() };
        for authority in ["ca", "other-ca"] {
            let (key, certificate) = (certificates.path(authority, "key"), certificates.path(authority, "pem"));
            let mut command = new_key("req -x509 -days 30", authority, &key);
            openssl(command.arg("-out").arg(certificate));
        }
        certificates.sign("server", &format!("subjectAltName={}\n", names.join(",")));
        certificates.sign("client", "extendedKeyUsage=clientAuth\n");
        let text = |kind| fs::read_to_string(certificates.path("server", kind)).expect("our own file");
        fs::write(certificates.server(), text("key") + &text("pem")).expect("our own folder");
        certificates
    }

    fn sign(&self, name: &str, extensions: &str) {
        let (request, extended) = (self.path(name, "csr"), self.path(name, "ext"));
        fs::write(&extended, extensions).expect("our own folder");
        openssl(new_key("req", name, &self.path(name, "key")).arg("-out").arg(&request));
        let mut command = Command::new("openssl");
        command.args(["x509", "-req", "-days", "30", "-CAcreateserial", "-CA"]).arg(self.path("ca", "pem"));
        command.arg("-CAkey").arg(self.path("ca", "key")).arg("-in").arg(request).arg("-extfile").arg(extended);
        openssl(command.arg("-out").arg(self.path(name, "pem")));
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.folder.join(format!("{name}.{kind}"))
    }

    /// The authority that signed the certificates.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.path("ca", "pem")
    }

    /// An authority that signed none of them.
    #[must_use]
    pub fn other_authority(&self) -> PathBuf {
        self.path("other-ca", "pem")
    }

    /// A client's certificate.
    #[must_use]
    pub fn client_certificate(&self) -> PathBuf {
        self.path("client", "pem")
    }

    /// The client's key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.path("client", "key")
    }

    /// The server's key and certificate in one file, as ZooKeeper needs them.
    pub(super) fn server(&self) -> PathBuf {
        self.path("server-both", "pem")
    }
}

fn new_key(task: &str, name: &str, key: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.args(task.split(' ')).args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    command.arg("-subj").arg(format!("/CN={name}")).arg("-keyout").arg(key);
    command
}

fn openssl(command: &mut Command) {
    let said = said(command);
    assert!(said.code == Some(0), "{command:?}: {}", said.stderr);
}
