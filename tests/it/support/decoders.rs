//! Decoders that are neither Weir's nor curl's: Debian's zstd, Node's zlib, and Google's brotli for Python. A process of each
//! decodes one body after another.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Reads a line `CODING LENGTH` and so many bytes. Writes the length of the decoded body and the body, or -1.
const NODE: &str = r#"
const fs = require('fs'), zlib = require('zlib');
const decoders = { gzip: zlib.gunzipSync, br: zlib.brotliDecompressSync, zstd: zlib.zstdDecompressSync };
const read = size => {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const count = fs.readSync(0, bytes, at, size - at, null);
    if (count === 0) process.exit();
    at += count;
  }
  return bytes;
};
const write = bytes => { for (let at = 0; at < bytes.length; ) at += fs.writeSync(1, bytes, at); };
write(Buffer.from(Object.keys(decoders).filter(name => decoders[name]).join(' ') + '\n'));
for (;;) {
  let line = '';
  for (let byte; (byte = read(1).toString()) !== '\n'; ) line += byte;
  const [coding, length] = line.split(' '), coded = read(Number(length));
  let body = null;
  try { body = decoders[coding](coded); } catch (error) { console.error(error); }
  write(Buffer.from((body ? body.length : -1) + '\n'));
  if (body) write(body);
}
"#;

const PYTHON: &str = r#"
import brotli, sys
print("br", flush=True)
while line := sys.stdin.buffer.readline():
    coded, body = sys.stdin.buffer.read(int(line.split()[1])), None
    try:
        body = brotli.decompress(coded)
    except brotli.error as error:
        print(error, file=sys.stderr)
    sys.stdout.buffer.write(b"%d\n%b" % (-1 if body is None else len(body), body or b""))
    sys.stdout.buffer.flush()
"#;

/// A decoder in a process of its own. It ends with the value.
pub struct Decoder {
    pub name: &'static str,
    codings: Vec<String>,
    kind: Kind,
    /// Bodies that it decoded.
    pub decoded: usize,
}

enum Kind {
    /// One process decodes all bodies.
    Server(Server),
    /// This command decodes its standard input.
    Command(&'static str),
}

struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Decoder {
    /// Those that are installed. It names the others.
    pub fn installed() -> Vec<Self> {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/brotli/bin/python");
        let zstd = Self { name: "zstd", codings: vec!["zstd".into()], kind: Kind::Command("zstd"), decoded: 0 };
        let servers = [
            Self::server("node", Command::new("node").args(["-e", NODE])),
            Self::server("Google's brotli", Command::new(python).args(["-c", PYTHON])),
        ];
        servers.into_iter().flatten().chain([zstd]).collect()
    }

    fn server(name: &'static str, command: &mut Command) -> Option<Self> {
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            println!("not tested: {name} is missing");
            return None;
        };
        let (input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let codings: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert!(!codings.is_empty(), "{name} does not start");
        Some(Self { name, codings, kind: Kind::Server(Server { child, input, output }), decoded: 0 })
    }

    pub fn supports(&self, coding: &str) -> bool {
        self.codings.iter().any(|known| known == coding)
    }

    /// The decoded body. None if the coded one is malformed or not whole.
    pub fn decode(&mut self, coding: &str, coded: &[u8]) -> Option<Vec<u8>> {
        self.decoded += 1;
        match &mut self.kind {
            Kind::Server(server) => server.decode(coding, coded),
            Kind::Command(command) => decode_by(command, coded),
        }
    }
}

impl Server {
    fn decode(&mut self, coding: &str, coded: &[u8]) -> Option<Vec<u8>> {
        writeln!(self.input, "{coding} {}", coded.len()).unwrap();
        self.input.write_all(coded).unwrap();
        self.input.flush().unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let length = usize::try_from(line.trim().parse::<i64>().unwrap()).ok()?;
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        Some(body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn decode_by(command: &str, coded: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(command).arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, coded) = (child.stdin.take().unwrap(), coded.to_vec());
    let writer = std::thread::spawn(move || input.write_all(&coded));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output.status.success().then_some(output.stdout)
}
