//! Finds the configuration file: `-c`, then `$WEIR_CONFIG`, then the usual places.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;

/// The environment variable that names the file.
const VARIABLE: &str = "WEIR_CONFIG";

/// Where the file is looked for, in this order.
const USUAL: [&str; 2] = ["conf/weir.yaml", "/etc/weir/weir.yaml"];

/// The option `-c`.
#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// The configuration file; `-` is standard input. Default: $WEIR_CONFIG, then conf/weir.yaml, then /etc/weir/weir.yaml
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The same for commands that take the file without `-c` as well.
#[derive(Debug, Args)]
pub(super) struct ConfigArgument {
    /// The configuration file, the same as -c FILE
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    option: ConfigFile,
}

/// There is no configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoFile;

impl fmt::Display for NoFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no configuration file: there is no {}. Give one: -c FILE, or ${VARIABLE}", USUAL.join(" and no "))
    }
}

impl ConfigFile {
    /// The path of the file.
    ///
    /// # Errors
    /// None was named, and none is in the usual places.
    pub(super) fn find(&self) -> Result<PathBuf, NoFile> {
        find(self.config.as_deref(), std::env::var_os(VARIABLE), &|path| path.exists())
    }
}

impl ConfigArgument {
    /// The path of the file.
    ///
    /// # Errors
    /// None was named, and none is in the usual places.
    pub(super) fn find(&self) -> Result<PathBuf, NoFile> {
        self.file.clone().map_or_else(|| self.option.find(), Ok)
    }
}

fn find(option: Option<&Path>, variable: Option<OsString>, exists: &dyn Fn(&Path) -> bool) -> Result<PathBuf, NoFile> {
    let named = option.map(Path::to_owned).or_else(|| variable.filter(|name| !name.is_empty()).map(PathBuf::from));
    let usual = || USUAL.iter().map(PathBuf::from).find(|path| exists(path));
    named.or_else(usual).ok_or(NoFile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_goes_before_the_variable_and_that_before_the_usual_places() {
        let find = |option: Option<&str>, variable: Option<&str>, there: &[&str]| {
            let exists = |path: &Path| there.iter().any(|name| path == Path::new(name));
            let found = find(option.map(Path::new), variable.map(OsString::from), &exists);
            found.map(|path| path.display().to_string())
        };
        let usual = ["/etc/weir/weir.yaml", "conf/weir.yaml"];
        let is = |text: &str| Ok(text.to_owned());
        assert_eq!(find(Some("a"), Some("b"), &usual), is("a"));
        assert_eq!(find(None, Some("b"), &usual), is("b"), "though it does not exist");
        assert_eq!(find(None, Some(""), &usual), is("conf/weir.yaml"));
        assert_eq!(find(None, None, &usual[..1]), is("/etc/weir/weir.yaml"));
        assert_eq!(find(None, None, &[]), Err(NoFile));
    }
}
