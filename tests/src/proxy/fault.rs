//! What a network never does and a faulty server might: one event lost, doubled, late or altered, on its way to the client.

/// What happens to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is left out.
    Drop,
    /// It comes twice.
    Double,
    /// It comes after the next frame.
    Delay,
    /// One byte of its payload, a lower-case letter, is another one.
    Alter,
}

/// Lets the server's frames pass until it is the turn of one.
#[derive(Debug)]
pub(super) struct Saboteur {
    fault: Fault,
    /// How many events still pass untouched.
    spared: usize,
    is_done: bool,
    has_seen_head: bool,
    pending: Vec<u8>,
    delayed: Vec<u8>,
}

impl Saboteur {
    pub(super) fn new(fault: Fault, spared: usize) -> Self {
        Self {
            fault,
            spared,
            is_done: false,
            has_seen_head: false,
            pending: Vec::new(),
            delayed: Vec::new(),
        }
    }

    /// Takes what the server sent; answers what the client gets.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        let mut out = Vec::new();
        if !self.has_seen_head {
            let Some(end) = find(&self.pending, b"\r\n\r\n") else {
                return out;
            };
            out.extend(self.pending.drain(..end + 4));
            self.has_seen_head = true;
        }
        while let Some(length) = frame_bytes(&self.pending) {
            let frame: Vec<u8> = self.pending.drain(..length).collect();
            self.frame(frame, &mut out);
        }
        out
    }

    fn frame(&mut self, mut frame: Vec<u8>, out: &mut Vec<u8>) {
        let is_event = find(&frame, br#""type":"event""#).is_some();
        let is_its_turn = is_event && !self.is_done && self.spared == 0;
        if is_event && !is_its_turn {
            self.spared = self.spared.saturating_sub(1);
        }
        if !is_its_turn {
            out.extend(frame);
            out.append(&mut self.delayed);
            return;
        }
        self.is_done = true;
        match self.fault {
            Fault::Drop => {}
            Fault::Double => {
                out.extend_from_slice(&frame);
                out.extend(frame);
            }
            Fault::Delay => self.delayed = frame,
            Fault::Alter => {
                let data = find(&frame, br#""data":"#).unwrap_or(0) + DATA_BYTES;
                let letter = frame[data..].iter().position(u8::is_ascii_lowercase);
                if let Some(letter) = letter {
                    frame[data + letter] = b'a' + (frame[data + letter] - b'a' + 1) % 26;
                }
                out.extend(frame);
            }
        }
    }
}

/// The length of the frame that begins here, once all of it is there (RFC 6455, 5.2, unmasked).
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let length = match bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        127 => 10 + usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?,
        short => 2 + usize::from(*short),
    };
    (bytes.len() >= length).then_some(length)
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

/// Behind the name and the colon.
const DATA_BYTES: usize = br#""data":"#.len();
