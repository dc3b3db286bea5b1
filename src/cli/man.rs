//! `weir man`: the manual page weir(1), with a section for each command.

use std::io;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::exit;

/// Prints the page.
pub(super) fn man(command: clap::Command) -> u8 {
    let mut page = Vec::new();
    match render(command, &mut page) {
        Ok(()) => {
            super::print_bytes(&page);
            exit::DONE
        }
        Err(error) => {
            super::say(format_args!("weir: cannot write the manual page: {error}"));
            exit::FAILED
        }
    }
}

fn render(mut command: clap::Command, page: &mut Vec<u8>) -> io::Result<()> {
    command.build();
    let commands: Vec<_> = command.get_subcommands().filter(|each| !each.is_hide_set()).cloned().collect();
    // The long version has several lines, and a title has one.
    let man = Man::new(command.long_version(None)).source(format!("weir {}", crate::VERSION)).manual("Weir");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    let mut heading = Roff::new();
    heading.control("SH", ["COMMANDS"]);
    heading.to_writer(page)?;
    for command in commands {
        render_command(command, page)?;
    }
    render_files(page)
}

/// A subsection: the synopsis, the description, the options, and the notes of `--help`.
fn render_command(command: clap::Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = format!("weir {}", command.get_name());
    let mut heading = Roff::new();
    heading.control("SS", [name.as_str()]);
    heading.to_writer(page)?;
    let notes = command.get_after_help().map(ToString::to_string);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut usage = Roff::new();
    usage.text([bold(command.clone().render_usage().to_string().trim_start_matches("Usage: "))]);
    usage.control("PP", []);
    usage.text([roman(format!("{about}."))]);
    usage.to_writer(page)?;
    let mut options = Vec::new();
    Man::new(command.mut_arg("help", |help| help.hide(true))).render_options_section(&mut options)?;
    // The options stand under the command. They are not a section of their own.
    let options = String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "");
    page.extend_from_slice(options.as_bytes());
    notes.map_or(Ok(()), |notes| render_notes(&notes, page))
}

/// The notes below the help of a command. Indented lines stay lines, the others are filled.
fn render_notes(notes: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut text = Roff::new();
    text.control("PP", []);
    for line in notes.lines() {
        match line {
            "" => text.control("PP", []),
            line if line.starts_with(' ') => text.control("br", []).text([roman(line)]).control("br", []),
            line => text.text([roman(line)]),
        };
    }
    text.to_writer(page)
}

fn render_files(page: &mut Vec<u8>) -> io::Result<()> {
    let files = [
        ("/etc/weir/weir.yaml", "The configuration of the service."),
        ("/etc/weir/environment", "Variables of the service, for ${VAR} in the configuration. Optional."),
        ("/var/lib/weir", "Its state: ACME accounts and certificates, sticky keys."),
        ("/var/log/weir", "Its access logs."),
    ];
    let mut section = Roff::new();
    section.control("SH", ["FILES"]);
    for (path, purpose) in files {
        section.control("TP", []).text([bold(path)]).text([roman(purpose)]);
    }
    section.control("SH", ["SEE ALSO"]);
    section.text([roman("The documentation is in /usr/share/doc/weir. `weir check` validates a configuration.")]);
    section.to_writer(page)
}
