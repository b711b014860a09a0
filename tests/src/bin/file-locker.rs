//! Keeps an embedded store's file locked, as a process inside a transaction does, until its standard input ends. Tests
//! stop it with signals. `file-locker FILE`

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rusqlite::Connection;

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("the store's file is missing")?;
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    writeln!(std::io::stdout(), "locked")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    connection.execute_batch("COMMIT")?;
    Ok(())
}
