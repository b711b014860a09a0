//! The login and the TLS files, put together from all that names a part of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::bad;
use crate::cli::argv_secret;
use crate::cli::exit::{ErrorKind, Failure};
use crate::cli::output::Output;
use crate::config::{Password, StoreSpec};
use lockkeeper_coordination::files;
use lockkeeper_coordination::zookeeper::{Login, Secret, TlsOptions};

/// The username and the login. The environment is last, and its password fits every username.
pub(super) fn login(output: &Output, said: &[StoreSpec]) -> Result<Option<(String, Login)>, Failure> {
    let names = said.iter().position(|spec| spec.username.is_some());
    let fits = |place: usize| place + 1 == said.len() || names.is_none_or(|names| place <= names);
    let password =
        said.iter().enumerate().filter(|(place, _)| fits(*place)).find_map(|(_, spec)| spec.password.clone());
    let scheme = said.iter().find_map(|spec| spec.scheme.as_deref());
    let username = names.and_then(|names| said[names].username.clone());
    match (username, password) {
        (Some(username), Some(password)) => {
            let secret = match password {
                Password::Given(secret) => secret,
                Password::File(file) => read_password(output, &file)?,
            };
            let login = Login::new(scheme.unwrap_or(Login::DEFAULT_SCHEME), &username, &secret);
            let login = login.map_err(|error| Failure::new(ErrorKind::BadArgument, error))?;
            Ok(Some((username, login)))
        }
        (Some(username), None) => Err(bad(format!("there is no password for `{username}`"))
            .hint("give one with `--password-file FILE`, LOCKKEEPER_PASSWORD or a profile that has the same username")),
        (None, Some(_)) => Err(bad("there is a password and no username")
            .hint("name one with `--username` or LOCKKEEPER_USERNAME, or leave the password out")),
        (None, None) => match scheme {
            Some(scheme) => Err(bad(format!("there is the scheme `{scheme}` and no username"))
                .hint("give `--username` and a password, or leave `--scheme` out")),
            None => Ok(None),
        },
    }
}

fn read_password(output: &Output, file: &Path) -> Result<Secret, Failure> {
    let shown = file.display();
    let text = files::open_given(file)
        .and_then(argv_secret::read)
        .map_err(|error| bad(format!("cannot read the password from `{shown}`: {error}")))?;
    warn_of_readers(output, file);
    argv_secret::secret(text, &format!("the password in `{shown}`"))
        .map_err(|failure| failure.hint("the file has the password and nothing else"))
}

/// Says so when others can read a file that has a password.
pub(super) fn warn_of_readers(output: &Output, file: &Path) {
    const OTHERS_READ: u32 = 0o044;
    let Ok(metadata) = std::fs::metadata(file) else { return };
    if metadata.is_file() && metadata.permissions().mode() & OTHERS_READ != 0 {
        let file = file.display();
        output.warn(&format!("`{file}` has a password, and others can read it: `chmod 600 {file}`"));
    }
}

pub(super) fn tls(said: &[StoreSpec]) -> Result<Option<TlsOptions>, Failure> {
    let file = |of: fn(&StoreSpec) -> Option<&PathBuf>| said.iter().find_map(of).cloned();
    let identity = match (file(|spec| spec.tls_cert.as_ref()), file(|spec| spec.tls_key.as_ref())) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(bad("there is a certificate and no key").hint("name it with `--tls-key`")),
        (None, Some(_)) => return Err(bad("there is a key and no certificate").hint("name it with `--tls-cert`")),
    };
    let Some(ca) = file(|spec| spec.tls_ca.as_ref()) else {
        return match identity {
            Some(_) => Err(bad("there is a client certificate and no CA certificate")
                .hint("name the CA certificate bundle with `--tls-ca`")),
            None => Ok(None),
        };
    };
    let files = identity.iter().flat_map(|(certificate, key)| [certificate, key]);
    for file in files.chain([&ca]) {
        files::open(file).map_err(|error| bad(format!("cannot read `{}`: {error}", file.display())))?;
    }
    Ok(Some(TlsOptions { ca, identity }))
}
