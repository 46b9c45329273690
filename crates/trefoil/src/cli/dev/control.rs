//! How another terminal asks a running `dev` to start a node again: one line over the socket
//! `DIR/dev.sock`, and one line back.

use miette::{IntoDiagnostic, WrapErr, miette};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOCKET: &str = "dev.sock";
/// A socket's path has to be short; longer ones go through the directory's descriptor. Bytes.
const PATH_BYTES_MAX: usize = 100;
/// How long either side waits for the other.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A longer line is no request; bytes.
const LINE_BYTES_MAX: u64 = 1024;

/// The socket of a running `dev`.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens in the directory, whose lock the caller holds: an old socket is nobody's.
    pub fn listen(directory: &Path) -> miette::Result<Control> {
        let path = directory.join(SOCKET);
        let _ = std::fs::remove_file(&path);
        let listener = with_short_path(directory, |path| UnixListener::bind(path))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .into_diagnostic()
            .wrap_err_with(|| format!("{} cannot be listened on", path.display()))?;
        Ok(Control { listener, path })
    }

    /// Answers the requests that have come.
    pub fn answer(&self, mut restart: impl FnMut(&str) -> Result<String, String>) {
        while let Ok((stream, _)) = self.listener.accept() {
            // An asker that goes away has only itself to blame.
            let _ = answer_one(&stream, &mut restart);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn answer_one(
    stream: &UnixStream,
    restart: &mut impl FnMut(&str) -> Result<String, String>,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    let answer = match line.trim_end().strip_prefix("restart ") {
        Some(name) => restart(name),
        None => Err(String::from("this is no request")),
    };
    let (word, text) = match &answer {
        Ok(text) => ("ok", text),
        Err(text) => ("error", text),
    };
    let mut writer = stream;
    writer.write_all(format!("{word} {text}\n").as_bytes())
}

/// Asks the `dev` that runs in a directory to start a node again; returns what it says.
pub fn ask(directory: &Path, name: &str) -> miette::Result<String> {
    let shown = directory.display();
    let mut stream = with_short_path(directory, |path| UnixStream::connect(path))
        .map_err(|error| miette!("no `trefoil dev` runs in {shown}: {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).into_diagnostic()?;
    stream.write_all(format!("restart {name}\n").as_bytes()).into_diagnostic()?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).into_diagnostic()?;
    match line.trim_end().split_once(' ') {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some(("error", text)) => Err(miette!("{text}")),
        _ => Err(miette!("the `trefoil dev` in {shown} went away")),
    }
}

/// Calls with a path to the socket that the operating system takes, however long the directory's
/// name is.
fn with_short_path<T>(
    directory: &Path,
    call: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let path = directory.join(SOCKET);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return call(&path);
    }
    let open = File::open(directory)?;
    call(&PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_answered_even_in_a_directory_with_a_long_name() {
        for name in ["short", &"long".repeat(40)] {
            let parent = tempfile::tempdir().unwrap();
            let directory = parent.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            let error = ask(&directory, "eu-1").unwrap_err().to_string();
            assert!(error.contains("no `trefoil dev` runs in"), "{error}");

            let control = Control::listen(&directory).unwrap();
            let asker = std::thread::spawn(move || {
                let first = ask(&directory, "eu-1").unwrap();
                (first, ask(&directory, "eu-9").unwrap_err().to_string())
            });
            while !asker.is_finished() {
                control.answer(|name| match name {
                    "eu-1" => Ok(String::from("started")),
                    _ => Err(format!("no {name}")),
                });
            }
            assert_eq!(asker.join().unwrap(), ("started".into(), "no eu-9".into()));
        }
    }
}
