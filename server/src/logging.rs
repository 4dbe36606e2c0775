//! Log lines as etcd writes them: one JSON object a line (`level`, `ts`, `caller`, `msg`, then the fields), or
//! the console form of the same.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogConfig, LogFormat, LogLevel, LogOutput};

/// Starts logging as `config` says. Does nothing if the process logs already.
///
/// # Errors
/// A file that cannot be opened, in etcd's words.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let level = match config.level {
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        // etcd's levels above error end the process when they are used; as thresholds they mean silence.
        _ => Level::ERROR,
    };
    let json = matches!(config.format, LogFormat::Json);
    let outputs = Outputs(config.outputs.iter().map(open).collect::<Result<_, _>>()?);
    let builder = tracing_subscriber::fmt().with_max_level(level).event_format(Lines { json });
    let _already = builder.with_writer(outputs).try_init();
    Ok(())
}

/// Places that each line is written to.
struct Outputs(Vec<Sink>);

enum Sink {
    Stderr,
    Stdout,
    File(File),
}

fn open(output: &LogOutput) -> Result<Sink, String> {
    Ok(match output {
        LogOutput::Stderr => Sink::Stderr,
        LogOutput::Stdout => Sink::Stdout,
        LogOutput::File(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            Sink::File(file.map_err(|error| {
                let path = path.display().to_string();
                format!("open sink {path:?}: open {path}: {}", in_go(&error))
            })?)
        }
    })
}

/// The system's reason without its number, as Go has it.
fn in_go(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = &'a Outputs;

    fn make_writer(&'a self) -> &'a Outputs {
        self
    }
}

/// A place that does not take a line keeps nobody from serving, and the others get it.
impl io::Write for &Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for sink in &self.0 {
            let _lost = match sink {
                Sink::Stderr => io::Write::write_all(&mut io::stderr(), line),
                Sink::Stdout => io::Write::write_all(&mut io::stdout(), line),
                Sink::File(file) => io::Write::write_all(&mut { file }, line),
            };
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Lines {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let file = metadata.file().unwrap_or("?");
        let caller = format!("{}:{}", short(file), metadata.line().unwrap_or(0));
        let ts = timestamp(SystemTime::now());
        if self.json {
            write!(out, "{{\"level\":\"{level}\",\"ts\":\"{ts}\",\"caller\":")?;
            string(&caller, &mut out)?;
            out.write_str(",\"msg\":")?;
            string(&fields.message, &mut out)?;
            writeln!(out, "{}}}", fields.rest)
        } else {
            write!(out, "{ts}\t{level}\t{caller}\t{}", fields.message)?;
            if !fields.rest.is_empty() {
                write!(out, "\t{{{}}}", fields.rest.trim_start_matches(','))?;
            }
            writeln!(out)
        }
    }
}

/// The folder and the file, as etcd's lines have it.
fn short(file: &str) -> &str {
    let mut slashes = file.rmatch_indices('/').map(|(at, _)| at);
    slashes.next();
    slashes.next().map_or(file, |at| &file[at + 1..])
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn name(&mut self, field: &Field) {
        let _infallible = write!(self.rest, ",\"{}\":", field.name().replace('_', "-"));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.name(field);
            let _infallible = string(value, &mut self.rest);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        let _infallible = write!(self.rest, "{value}");
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field);
        let _infallible = write!(self.rest, "{value}");
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        let _infallible = write!(self.rest, "{value}");
    }
}

/// A JSON string.
fn string(text: &str, out: &mut impl fmt::Write) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\t' => out.write_str("\\t")?,
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32)?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// UTC with microseconds, as in RFC 3339.
pub(crate) fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second_of_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// The date `days` after 1970-01-01 in the proleptic Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut rest) = (1970 + days / 146_097 * 400, days % 146_097);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if rest < length {
            break;
        }
        rest -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000000Z");
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        string("a\"b\\c\n\u{1}", &mut out).unwrap();
        assert_eq!(out, r#""a\"b\\c\n\u0001""#);
        assert_eq!(short("server/src/api/kv.rs"), "api/kv.rs");
        assert_eq!(short("kv.rs"), "kv.rs");
    }
}
