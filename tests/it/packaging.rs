//! What packages contain: named files exist, completions and the manual page are generated, and the systemd units verify.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::weir::command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs a shell with this script, and returns its output.
fn shell(program: &str, script: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).arg("-c").arg(script).arg("sh").args(arguments).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} {arguments:?}: {said}{errors}");
    said.into_owned()
}

fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = command(&["--help"]).stdout;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let first = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    // A long description goes on in lines that are indented further.
    lines.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).map(first).collect()
}

#[test]
fn each_file_that_the_debian_package_names_exists_or_is_generated() {
    let manifest = text("Cargo.toml");
    let section = manifest.split("[package.metadata.deb]").nth(1).unwrap();
    let assets = section.split("assets = [").nth(1).unwrap().split("\n]").next().unwrap();
    let stage = text("scripts/stage.sh");
    let mut seen = 0;
    for line in assets.lines().filter(|line| line.contains('[')) {
        let source = line.split('"').nth(1).unwrap();
        seen += 1;
        if let Some(generated) = source.strip_prefix("target/packages/stage/") {
            let name = generated.trim_end_matches("/*").split('.').next().unwrap();
            assert!(stage.contains(name), "scripts/stage.sh generates no {generated}");
            continue;
        }
        let fixed = source.split('*').next().unwrap().trim_end_matches('/');
        assert!(root().join(fixed).exists(), "{source}");
    }
    assert!(seen > 15, "{seen} files");
    for name in
        ["packaging/copyright", "packaging/debian/postinst", "packaging/debian/prerm", "packaging/debian/postrm"]
    {
        assert!(root().join(name).exists(), "{name}");
    }
}

#[test]
fn the_shell_scripts_of_packages_have_no_syntax_error() {
    for folder in ["scripts", "packaging/debian", ".ci"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let first =
                std::fs::read_to_string(&path).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
            if first.starts_with("#!") && !first.contains("python") {
                shell("bash", "bash -n \"$1\"", &[path.to_str().unwrap()]);
            }
        }
    }
}

#[test]
fn completions_of_each_shell_know_each_command() {
    let commands = commands();
    assert!(commands.contains(&"proxy".to_owned()) && commands.len() > 10, "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = command(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
        for name in &commands {
            assert!(script.stdout.contains(name.as_str()), "{shell}: {name}");
        }
    }
    let other = command(&["completions", "tcsh"]);
    assert!(other.code == Some(64) && other.stderr.contains("bash"), "{}", other.stderr);
}

#[test]
fn bash_completes_commands_and_options() {
    let script = "source <(\"$1\" completions bash); COMP_WORDS=(\"${@:2}\"); COMP_CWORD=$(( $# - 2 ))\n\
                  _weir weir \"${COMP_WORDS[COMP_CWORD]}\" \"\"; echo \"${COMPREPLY[@]}\"";
    let weir = env!("CARGO_BIN_EXE_weir");
    assert_eq!(shell("bash", script, &[weir, "weir", "prox"]).trim(), "proxy");
    let options = shell("bash", script, &[weir, "weir", "proxy", "--tls"]);
    assert!(options.contains("--tls-names") && options.contains("--tls-email"), "{options}");
}

#[test]
fn the_manual_page_has_each_command_with_its_options() {
    let page = command(&["man"]);
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    for name in commands() {
        assert!(page.stdout.contains(&format!(".SS \"weir {name}\"")), "{name}");
    }
    for part in [".TH weir 1", "\\-\\-print\\-config", "WEIR_TO", "/etc/weir/weir.yaml", "Exit status"] {
        assert!(page.stdout.contains(part), "{part}");
    }
    if exists("man") {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.1");
        std::fs::write(&file, &page.stdout).unwrap();
        let warnings = shell("sh", "man --warnings -l \"$1\" 2>&1 >/dev/null", &[file.to_str().unwrap()]);
        assert_eq!(warnings, "");
    }
}

#[test]
fn the_systemd_units_verify_with_the_paths_of_the_package() {
    if !exists("systemd-analyze") {
        println!("skipped: no systemd-analyze");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for unit in ["weir.service", "weir.socket"].iter().filter(|unit| root().join("conf").join(unit).exists()) {
        let packaged = text(&format!("conf/{unit}")).replace("/usr/local/", "/usr/");
        assert!(!packaged.contains("/usr/local"), "{unit}");
        // The program is not installed where the tests run, and neither is its user.
        let here = packaged.replace("/usr/bin/weir", env!("CARGO_BIN_EXE_weir"));
        let file = folder.path().join(unit);
        std::fs::write(&file, here).unwrap();
        let said = shell("sh", "systemd-analyze verify \"$1\" 2>&1", &[file.to_str().unwrap()]);
        // Messages about other units of this host are not about Weir.
        let ours: Vec<_> = said.lines().filter(|line| line.contains("weir")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[test]
fn the_packaged_configuration_answers_without_a_backend() {
    let checked = command(&["check", root().join("packaging/weir.yaml").to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    let with_backend = text("packaging/weir.yaml").replace('#', "");
    assert!(with_backend.contains("upstreams:"));
}

#[test]
fn the_list_of_dependencies_has_those_of_the_binary_with_their_checksums() {
    let output = Command::new("python3").arg(root().join("scripts/sbom.py")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((list["bomFormat"].as_str(), list["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    let components = list["components"].as_array().unwrap();
    let find = |name: &str| components.iter().find(|component| component["name"] == name);
    assert!(find("pingora-core").is_some() && find("clap_mangen").is_some() && find("weir-task").is_some());
    assert!(find("proptest").is_none() && find("bolero").is_none(), "a dependency of tests");
    let of_registry = components.iter().filter(|component| component["hashes"].is_array()).count();
    assert!(components.len() - of_registry <= 4, "crates without a checksum");
    for dependency in list["dependencies"].as_array().unwrap() {
        for target in dependency["dependsOn"].as_array().unwrap() {
            assert!(components.iter().any(|component| component["bom-ref"] == *target), "{target}");
        }
    }
}

#[test]
fn the_container_image_is_configured_by_variables_that_exist() {
    let image = text("Containerfile");
    let help = command(&["proxy", "--help"]).stdout + &command(&["status", "--help"]).stdout;
    let help = help.split_whitespace().collect::<String>();
    let words = image.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    for variable in words.filter(|word| word.starts_with("WEIR_")) {
        assert!(help.contains(&format!("env:{variable}=")), "{variable}");
    }
    for line in ["USER 65532:65532", "ENTRYPOINT [\"/usr/bin/weir\"]", "CMD [\"proxy\"]"] {
        assert!(image.lines().any(|each| each == line), "{line}");
    }
}
