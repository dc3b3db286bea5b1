//! `weir completions`: completions for a shell.

use clap::Args;
use clap_complete::Shell;

use super::exit;

pub(super) const AFTER: &str = "\
Where shells look for them:
  bash  weir completions bash > ~/.local/share/bash-completion/completions/weir
  zsh   weir completions zsh > ~/.zfunc/_weir        with `fpath+=~/.zfunc` before compinit in ~/.zshrc
  fish  weir completions fish > ~/.config/fish/completions/weir.fish

The Debian package contains them.";

/// The arguments of `weir completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = shell_parser())]
    shell: Shell,
}

/// The shells whose completions the tests try.
fn shell_parser() -> impl clap::builder::TypedValueParser<Value = Shell> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<Shell>())
}

/// Prints the completions of this command line.
pub(super) fn completions(options: &Completions, mut command: clap::Command) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "weir", &mut script);
    super::print_bytes(&script);
    exit::DONE
}
