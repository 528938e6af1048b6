//! The pipes to the CLI, each with a task of its own, so that a CLI that prints while we write
//! can never block us, and a reader that is dropped half-way never loses part of a line.

use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

/// The most bytes of one line. The CLI prints a whole answer as one line, so that lines of some
/// MiB are common; what is longer than this is dropped, as one line.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;
/// How many lines wait for us before the CLI has to.
const WAITING_LINES: usize = 16;

/// The lines of a pipe, without their ends. Ends with the pipe.
pub(in crate::driver) fn lines(
    pipe: Option<impl AsyncRead + Unpin + Send + 'static>,
) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING_LINES);
    if let Some(pipe) = pipe {
        tokio::spawn(async move {
            let mut reader = tokio::io::BufReader::with_capacity(64 * 1024, pipe);
            while let Some(line) = next_line(&mut reader, MAX_LINE_BYTES).await {
                if sender.send(line).await.is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// The next line; none at the end, or where the pipe breaks. A line that is too long is left
/// out, and the one behind it comes.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin), most: u64) -> Option<Vec<u8>> {
    loop {
        let mut line = Vec::new();
        let read = (&mut *reader).take(most).read_until(b'\n', &mut line).await.ok()?;
        if read == 0 {
            return None;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            return Some(line);
        }
        if (read as u64) < most {
            return Some(line);
        }
        skip_line(reader).await?;
    }
}

async fn skip_line(reader: &mut (impl AsyncBufRead + Unpin)) -> Option<()> {
    loop {
        let buffer = reader.fill_buf().await.ok()?;
        if buffer.is_empty() {
            return None;
        }
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                reader.consume(end + 1);
                return Some(());
            }
            None => {
                let length = buffer.len();
                reader.consume(length);
            }
        }
    }
}

/// Writes values as lines. The pipe closes once the sender is dropped and all is written.
pub(in crate::driver) fn writer(
    pipe: Option<impl AsyncWrite + Unpin + Send + 'static>,
) -> mpsc::UnboundedSender<Value> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Value>();
    if let Some(mut pipe) = pipe {
        tokio::spawn(async move {
            while let Some(value) = receiver.recv().await {
                let mut line = value.to_string().into_bytes();
                line.push(b'\n');
                // A CLI that reads no more is about to end; its end is seen elsewhere.
                if pipe.write_all(&line).await.is_err() || pipe.flush().await.is_err() {
                    break;
                }
            }
        });
    }
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &'static [u8], most: u64) -> Vec<String> {
        let mut reader = tokio::io::BufReader::with_capacity(3, bytes);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, most).await {
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        lines
    }

    #[tokio::test]
    async fn lines_come_whole_whatever_the_buffer() {
        assert_eq!(read(b"one\n\nlonger one\nlast", 100).await, ["one", "", "longer one", "last"]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_left_out_and_the_next_one_comes() {
        assert_eq!(read(b"ok\nmuch too long\nok too\n", 8).await, ["ok", "ok too"]);
        assert_eq!(read(b"much too long", 8).await, Vec::<String>::new());
    }
}
