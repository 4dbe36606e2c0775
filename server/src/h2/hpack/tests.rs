//! The RFC's examples, and blocks of our own.

use super::encode::string;
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn name_of(name: &Name) -> String {
    match name {
        Name::Method => ":method".into(),
        Name::Scheme => ":scheme".into(),
        Name::Authority => ":authority".into(),
        Name::Path => ":path".into(),
        Name::Field(name) => name.to_string(),
        Name::Bad(name) => format!("bad {}", String::from_utf8_lossy(name)),
    }
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut found = Vec::new();
    decoder.decode(block, |field| {
        found.push(format!("{}: {}", name_of(&field.name), String::from_utf8_lossy(&field.value)));
    })?;
    Ok(found)
}

/// Appendix C.3 and C.4: the same three requests on one connection, plain and coded.
#[test]
fn the_rfcs_requests() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        let found = blocks.map(|block| decode(&mut decoder, &hex(block)).unwrap());
        let authority = ":authority: www.example.com";
        assert_eq!(found[0], [":method: GET", ":scheme: http", ":path: /", authority]);
        assert_eq!(
            found[1],
            [":method: GET", ":scheme: http", ":path: /", authority, "cache-control: no-cache"]
        );
        let third =
            [":method: GET", ":scheme: https", ":path: /index.html", authority, "custom-key: custom-value"];
        assert_eq!(found[2], third);
        assert_eq!(decoder.size, 164);
    }
}

/// Appendix C.5: a table of 256 bytes forgets.
#[test]
fn the_rfcs_table_forgets_the_oldest() {
    let mut decoder = Decoder { size_max: 256, ..Decoder::default() };
    for (block, size) in [
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
          3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            222,
        ),
        ("4803 3330 37c1 c0bf", 222),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
          7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
          6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            215,
        ),
    ] {
        decode(&mut decoder, &hex(block)).unwrap();
        assert_eq!(decoder.size, size);
    }
    let kept: Vec<_> = decoder.fields.iter().map(|field| name_of(&field.name)).collect();
    assert_eq!(kept, ["set-cookie", "content-encoding", "date"]);
}

#[test]
fn what_is_no_block_is_refused() {
    let refused = |block: &str| decode(&mut Decoder::default(), &hex(block)).is_err();
    assert!(refused("80"), "number 0");
    assert!(refused("be"), "nothing is remembered yet");
    assert!(refused("ff80 8080 8001"), "a number of more bytes than any needs");
    assert!(refused("ffff ffff ff7f"), "a number of more bytes than any needs");
    assert!(refused("0005 61"), "a name that ends early");
    assert!(refused("0001 61"), "no value");
    assert!(refused("0001 6105 62"), "a value that ends early");
    assert!(refused("4081 ff01 61"), "a code that is none");
    assert!(refused("3fe2 1f"), "a table of 4097 bytes");
    assert!(refused("8220"), "a size behind a field");
    assert!(!refused("3fe1 1f20 3fe1 1f82"), "sizes before the first field");
}

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::default();
    decode(&mut decoder, &hex("4001 6101 62")).unwrap();
    assert_eq!((decoder.fields.len(), decoder.version()), (1, 1));
    let mut large = hex("4001 63");
    string(&[b'v'; 5000], &mut large);
    assert_eq!(decode(&mut decoder, &large).unwrap().len(), 1);
    assert_eq!((decoder.fields.len(), decoder.size, decoder.version()), (0, 0, 2));
}

#[test]
fn no_bytes_make_it_panic_or_remember_more_than_it_may() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut decoder = Decoder::default();
    for _ in 0..20_000 {
        let mut block = vec![0; (random >> 58) as usize];
        for byte in &mut block {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (random >> 56) as u8;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let _whatever = decode(&mut decoder, &block);
        let size: usize = decoder.fields.iter().map(Field::size).sum();
        assert_eq!(decoder.size, size);
        assert!(size <= TABLE_BYTES);
    }
}

#[test]
fn answers_are_understood_and_short_from_the_second_on() {
    let mut encoder = Encoder::default();
    let mut decoder = Decoder::default();
    let answer = |encoder: &mut Encoder| {
        let (mut head, mut trailers) = (Vec::new(), Vec::new());
        encoder.status(200, &mut head);
        encoder.field("content-type", b"application/grpc", &mut head);
        encoder.begin(&mut trailers);
        encoder.field("grpc-status", b"0", &mut trailers);
        (head, trailers)
    };
    for (round, lens) in [(22 + 10, 15), (2, 1), (2, 1)].into_iter().enumerate() {
        let (head, trailers) = answer(&mut encoder);
        if round > 0 {
            assert_eq!((head.len(), trailers.len()), lens);
        }
        let found = decode(&mut decoder, &head).unwrap();
        assert_eq!(found, ["bad :status: 200", "content-type: application/grpc"]);
        assert_eq!(decode(&mut decoder, &trailers).unwrap(), ["grpc-status: 0"]);
    }
    encoder.set_table_bytes(100);
    encoder.set_table_bytes(50);
    for _ in 0..2 {
        let (head, trailers) = answer(&mut encoder);
        assert_eq!(decode(&mut decoder, &head).unwrap()[1], "content-type: application/grpc");
        assert_eq!(decode(&mut decoder, &trailers).unwrap(), ["grpc-status: 0"]);
        assert_eq!(decoder.size, 0);
    }
    let mut odd = Vec::new();
    encoder.status(418, &mut odd);
    encoder.field("x", &[b'v'; 300], &mut odd);
    let found = decode(&mut decoder, &odd).unwrap();
    assert_eq!(found[0], "bad :status: 418");
    assert_eq!(found[1].len(), 3 + 300);
}

#[test]
fn a_client_that_remembers_less_is_told_so_first() {
    for (sizes, told) in [
        (&[4096, 1 << 16][..], &[][..]),
        (&[1000, 4096], &[0x3f, 0xc9, 0x07]),
        (&[1000, 104], &[0x3f, 73]),
        (&[103], &[0x20]),
        (&[0, 4096], &[0x20]),
    ] {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        sizes.iter().for_each(|&size| encoder.set_table_bytes(size));
        for round in 0..3 {
            let mut block = Vec::new();
            encoder.status(200, &mut block);
            encoder.field("content-type", b"application/grpc", &mut block);
            let told = if round == 0 { told } else { &[] };
            assert!(block.starts_with(&[told, &[0x88]].concat()), "{sizes:?}");
            assert_eq!(decode(&mut decoder, &block).unwrap()[1], "content-type: application/grpc");
        }
    }
}

#[test]
fn fields_come_in_any_order() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for value in [&b"0"[..], b"0", b"5", b"0"] {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.field("grpc-status", value, &mut block);
        encoder.field("content-type", b"application/grpc", &mut block);
        encoder.field("content-type", b"text/plain", &mut block);
        let status = format!("grpc-status: {}", String::from_utf8_lossy(value));
        let wanted = [&status[..], "content-type: application/grpc", "content-type: text/plain"];
        assert_eq!(decode(&mut decoder, &block).unwrap(), wanted);
    }
}
