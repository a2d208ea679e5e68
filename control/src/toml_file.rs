//! Reading a TOML file so that whatever is wrong with it fits in one sentence: the file, the line
//! where the parser knows it, the key, and what is wrong.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};

/// Why a file could not be used.
#[derive(Debug)]
pub struct FileError {
    file: PathBuf,
    line: Option<usize>,
    key: Option<String>,
    problem: String,
}

impl std::error::Error for FileError {}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl FileError {
    /// A problem that the file's content as a whole has, at `key`.
    #[must_use]
    pub fn at_key(file: &Path, key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: Some(key.into()),
            problem: one_line(&problem.to_string()),
        }
    }

    /// A problem with the file itself.
    #[must_use]
    pub fn of_file(file: &Path, problem: impl fmt::Display) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: None,
            problem: one_line(&problem.to_string()),
        }
    }

    fn of_io(file: &Path, error: &io::Error) -> Self {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
            _ => format!("the file cannot be read: {error}"),
        };
        Self::of_file(file, problem)
    }
}

/// Reads and deserializes a file.
///
/// # Errors
/// [`FileError`] for a file that cannot be read, is no TOML, or does not fit `T`.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, FileError> {
    let text = fs::read_to_string(file).map_err(|error| FileError::of_io(file, &error))?;
    parse(file, &text)
}

/// Deserializes `text`, which came from `file`.
///
/// # Errors
/// [`FileError`] for a text that is no TOML or does not fit `T`.
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, FileError> {
    let error = |key: Option<String>, error: &toml::de::Error| FileError {
        file: file.to_owned(),
        line: error.span().map(|span| line_of(text, span.start)),
        key,
        problem: one_line(error.message()),
    };
    let document = toml::Deserializer::parse(text).map_err(|problem| error(None, &problem))?;
    serde_path_to_error::deserialize(document).map_err(|problem| {
        let key = Some(problem.path().to_string()).filter(|path| path != ".");
        error(key, problem.inner())
    })
}

/// For `#[serde(deserialize_with)]` of durations: "60s", "50us", "1m 30s", or "0".
///
/// # Errors
/// A text that is no duration.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| de::Error::custom(format_args!("{text:?} is not a duration: {error}")))
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// An error is one sentence on one line, whatever the parser made of it.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
