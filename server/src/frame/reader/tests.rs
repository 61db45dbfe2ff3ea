use proptest::prelude::*;

use super::*;

const BYTES_MAX: usize = 1_000;
const FRAGMENTS_MAX: u32 = 8;

/// A masked frame with a header written by tungstenite.
fn frame(opcode: OpCode, payload: &[u8], is_final: bool) -> Vec<u8> {
    let mask = [0xA1, 0x07, 0xFF, 0x33];
    let header = FrameHeader {
        is_final,
        opcode,
        mask: Some(mask),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).unwrap();
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

fn text(payload: &str) -> Vec<u8> {
    frame(OpCode::Data(Data::Text), payload.as_bytes(), true)
}

fn read(chunks: &[&[u8]]) -> Result<Vec<Incoming>, FrameError> {
    let mut reader = FrameReader::new(BYTES_MAX, FRAGMENTS_MAX);
    let mut all = Vec::new();
    for chunk in chunks {
        reader.push(chunk, Instant::now());
        while let Some(incoming) = reader.next()? {
            all.push(incoming);
        }
        all.retain(|incoming| *incoming != Incoming::Fragment);
    }
    Ok(all)
}

#[track_caller]
fn refuses(bytes: &[u8], close_code: u16) {
    match read(&[bytes]) {
        Err(error) => assert_eq!(error.close_code(), close_code, "{error}"),
        Ok(messages) => panic!("accepted {messages:?}"),
    }
}

#[tokio::test]
async fn a_message_may_come_byte_by_byte_with_pings_in_between() {
    let mut bytes = frame(OpCode::Data(Data::Text), b"hel", false);
    bytes.extend(frame(OpCode::Control(Control::Ping), b"?", true));
    bytes.extend(frame(OpCode::Data(Data::Continue), b"lo", true));
    bytes.extend(text("next"));
    let single: Vec<_> = bytes.chunks(1).collect();
    let expect = vec![
        Incoming::Ping(b"?".to_vec()),
        Incoming::Text("hello".to_owned()),
        Incoming::Text("next".to_owned()),
    ];
    assert_eq!(read(&single), Ok(expect));
}

#[tokio::test]
async fn every_broken_rule_has_its_close_code() {
    refuses(&[0x81, 0x01, b'x'], 1002);
    refuses(&frame(OpCode::Data(Data::Continue), b"x", true), 1002);
    refuses(&frame(OpCode::Data(Data::Text), b"\xff", true), 1007);
    refuses(
        &frame(OpCode::Control(Control::Ping), &[0; 126], true),
        1002,
    );
    refuses(&frame(OpCode::Control(Control::Ping), b"", false), 1002);
    refuses(&frame(OpCode::Control(Control::Close), &[3], true), 1002);
    refuses(
        &frame(
            OpCode::Control(Control::Close),
            &1005_u16.to_be_bytes(),
            true,
        ),
        1002,
    );
    refuses(&[0xC1, 0x80, 0, 0, 0, 0], 1002);
    refuses(&[0x83, 0x80, 0, 0, 0, 0], 1002);
    let mut interleaved = frame(OpCode::Data(Data::Text), b"a", false);
    interleaved.extend(text("b"));
    refuses(&interleaved, 1002);
}

#[tokio::test]
async fn a_length_above_the_limit_is_refused_before_its_bytes_arrive() {
    refuses(
        &[
            0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0,
        ],
        1009,
    );
    refuses(&[0x81, 0xFE, 0x03, 0xE9, 0, 0, 0, 0], 1009);
    assert_eq!(
        read(&[&text(&"x".repeat(BYTES_MAX))]).map(|all| all.len()),
        Ok(1)
    );
}

#[tokio::test]
async fn text_that_cannot_become_utf8_is_refused_before_the_rest_of_it_arrives() {
    // "κόσμε" and then a code point above U+10FFFF, which its second byte shows.
    let broken = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
    let good = broken.len() - b"\x90\x80\x80edited".len();
    let whole = frame(OpCode::Data(Data::Text), broken, true);
    let header = whole.len() - broken.len();
    assert_eq!(read(&[&whole[..header + good]]), Ok(Vec::new()));
    refuses(&whole[..=header + good], 1007);
    // Likewise in a fragment, complete or not, and when the character began in the fragment before.
    let first = frame(OpCode::Data(Data::Text), &broken[..good], false);
    assert_eq!(read(&[&first]), Ok(Vec::new()));
    let second = frame(OpCode::Data(Data::Continue), &broken[good..], false);
    refuses(&[first.clone(), second.clone()].concat(), 1007);
    let up_to_the_byte = second.len() - (broken.len() - good) + 1;
    refuses(&[&first, &second[..up_to_the_byte]].concat(), 1007);
    // A character may be spread over fragments, and binary messages hold anything.
    let split = [
        frame(OpCode::Data(Data::Text), b"\xce", false),
        frame(OpCode::Data(Data::Continue), b"\xba", true),
    ];
    assert_eq!(
        read(&[&split.concat()]),
        Ok(vec![Incoming::Text("κ".to_owned())])
    );
    let binary = frame(OpCode::Data(Data::Binary), broken, true);
    assert_eq!(
        read(&[&binary[..binary.len() - 3], &binary[binary.len() - 3..]]),
        Ok(vec![Incoming::Binary(broken.to_vec())])
    );
}

#[tokio::test]
async fn a_limit_that_widens_counts_from_the_next_frame_on() {
    let mut reader = FrameReader::new(10, FRAGMENTS_MAX);
    reader.push(&text(&"x".repeat(10)), Instant::now());
    assert!(matches!(reader.next(), Ok(Some(Incoming::Text(_)))));
    reader.set_bytes_max(BYTES_MAX);
    reader.push(&text(&"x".repeat(BYTES_MAX)), Instant::now());
    assert!(matches!(reader.next(), Ok(Some(Incoming::Text(_)))));
    reader.set_bytes_max(10);
    reader.push(&text(&"x".repeat(11))[..6], Instant::now());
    assert_eq!(reader.next(), Err(FrameError::TooLarge { bytes_max: 10 }));
}

#[tokio::test]
async fn fragments_are_counted_and_their_sizes_added_up() {
    let many = [
        frame(OpCode::Data(Data::Text), b"", false),
        frame(OpCode::Data(Data::Continue), b"", false).repeat(8),
    ];
    refuses(&many.concat(), 1008);
    let large = [
        frame(OpCode::Data(Data::Text), &[b'x'; 600], false),
        frame(OpCode::Data(Data::Continue), &[b'x'; 600], true),
    ];
    refuses(&large.concat(), 1009);
}

#[tokio::test]
async fn an_idle_reader_owns_no_memory_and_keeps_no_clock() {
    let mut reader = FrameReader::new(BYTES_MAX, FRAGMENTS_MAX);
    let bytes = text("hello");
    reader.push(&bytes[..3], Instant::now());
    assert_eq!(reader.next(), Ok(None));
    assert!(reader.started_at().is_some());
    reader.push(&bytes[3..], Instant::now());
    assert!(matches!(reader.next(), Ok(Some(_))));
    assert_eq!(reader.next(), Ok(None));
    assert_eq!(
        (
            reader.pending.capacity(),
            reader.message.capacity(),
            reader.started_at()
        ),
        (0, 0, None)
    );
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_a_message_starts_with_its_own_first_read() {
    let mut reader = FrameReader::new(BYTES_MAX, FRAGMENTS_MAX);
    let stream = text("one").repeat(2);
    let middle = stream.len() / 2 + 2;
    reader.push(&stream[..3], Instant::now());
    assert_eq!(reader.next(), Ok(None));
    tokio::time::advance(std::time::Duration::from_secs(9)).await;
    let later = Instant::now();
    reader.push(&stream[3..middle], later);
    assert!(matches!(reader.next(), Ok(Some(_))));
    assert_eq!(reader.next(), Ok(None));
    assert_eq!(reader.started_at(), Some(later));
}

proptest! {
    /// However the stream is cut into reads, the messages are the same.
    #[test]
    fn cuts_change_nothing(payloads in proptest::collection::vec(".{0,200}", 1..6), cuts in proptest::collection::vec(1_usize..40, 1..60)) {
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| text(payload)).collect();
        let mut rest = &stream[..];
        let mut chunks = Vec::new();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            chunks.push(head);
            rest = tail;
        }
        chunks.push(rest);
        let expect: Vec<_> = payloads.into_iter().map(Incoming::Text).collect();
        prop_assert_eq!(read(&chunks), Ok(expect));
    }

    /// A reader that is told to stop in the middle of anything takes no notice of what follows.
    #[test]
    fn nothing_is_heard_after_a_stop(payload in ".{1,200}", stop_after in 0_usize..220, more in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut reader = FrameReader::new(BYTES_MAX, FRAGMENTS_MAX);
        let mut stream = text(&payload);
        // The first of several fragments.
        stream[0] &= 0x7f;
        stream.truncate(stop_after);
        reader.push(&stream, Instant::now());
        while let Ok(Some(_)) = reader.next() {}
        reader.stop();
        reader.push(&more, Instant::now());
        prop_assert_eq!(reader.next(), Ok(None));
        prop_assert_eq!(reader.started_at(), None);
    }

    /// Any bytes at all end in messages or in a refusal, never in a panic.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&[&bytes]);
    }
}
