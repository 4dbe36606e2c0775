//! The Huffman code of HPACK (RFC 7541, section 5.2 and appendix B), for reading: what a server sends is short enough without.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and longer ones follow shorter
//! ones. So the lengths say everything, and a code is found by comparing with the first one of each length.

/// Bits of the code of each byte.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];

/// The longest code, in bits. The symbol that ends nothing has it too, behind all bytes.
const BITS_MAX: usize = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Class {
    /// The first code of this length.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their symbols begin in [`Code::symbols`].
    at: u32,
}

struct Code {
    classes: [Class; BITS_MAX + 1],
    /// Bytes by code.
    symbols: [u8; 256],
}

const fn code() -> Code {
    let mut classes = [Class { first: 0, count: 0, at: 0 }; BITS_MAX + 1];
    let mut symbols = [0; 256];
    let (mut bits, mut next, mut at) = (1, 0_u32, 0);
    while bits <= BITS_MAX {
        next <<= 1;
        classes[bits] = Class { first: next, count: 0, at: at as u32 };
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                symbols[at] = symbol as u8;
                at += 1;
                next += 1;
                classes[bits].count += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    Code { classes, symbols }
}

static DECODE: Code = code();

/// Decodes `bytes`; `None` if they are no whole code, or end with more or other padding than up to seven ones.
#[must_use]
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    // The shortest code has five bits.
    let mut out = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut window, mut have) = (0_u64, 0_usize);
    let mut rest = bytes.iter();
    loop {
        while have <= 56
            && let Some(&byte) = rest.next()
        {
            window |= u64::from(byte) << (56 - have);
            have += 8;
        }
        if have == 0 {
            return Some(out);
        }
        let Some((symbol, bits)) = first_symbol(window).filter(|&(_, bits)| bits <= have) else {
            // What is left must be padding: the beginning of the symbol that ends nothing, all ones.
            let all_ones = have < 8 && (window >> (64 - have)) == (1 << have) - 1;
            return all_ones.then_some(out);
        };
        out.push(symbol);
        window <<= bits;
        have -= bits;
    }
}

/// The first symbol of what `window` holds in its upper bits, and how many bits it takes.
fn first_symbol(window: u64) -> Option<(u8, usize)> {
    for (bits, class) in DECODE.classes.iter().enumerate().skip(5) {
        let code = (window >> (64 - bits)) as u32;
        if code.wrapping_sub(class.first) < class.count {
            return Some((DECODE.symbols[(class.at + code - class.first) as usize], bits));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes from the same lengths, the slow way: every code is counted up from the one before.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut order: Vec<_> = (0..256).map(|symbol| (LENGTHS[symbol], symbol)).collect();
        order.sort_unstable();
        let (mut codes, mut next, mut before) = ([0_u64; 256], 0_u64, order[0].0);
        for (bits, symbol) in order {
            next <<= bits - before;
            before = bits;
            codes[symbol] = next;
            next += 1;
        }
        let mut bits = String::new();
        for &byte in text {
            let byte = usize::from(byte);
            bits.push_str(&format!("{:0width$b}", codes[byte], width = usize::from(LENGTHS[byte])));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|octet| u8::from_str_radix(std::str::from_utf8(octet).unwrap(), 2).unwrap())
            .collect()
    }

    #[test]
    fn the_rfcs_examples() {
        let known: [(&str, &[u8]); 3] = [
            ("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("302", &[0x64, 0x02]),
        ];
        for (text, bytes) in known {
            assert_eq!(decode(bytes).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), bytes);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for len in 0..all.len() {
            assert_eq!(decode(&encode(&all[..len])).unwrap(), &all[..len]);
        }
    }

    #[test]
    fn padding_is_fewer_than_eight_ones_and_nothing_else() {
        assert_eq!(decode(&[0xff]), None, "eight ones");
        assert_eq!(decode(&[0x64, 0x02, 0xff]), None, "a whole byte of padding");
        // '0' is five zeroes; three zeroes are no padding.
        assert_eq!(decode(&[0b0000_0111]).unwrap(), b"0");
        assert_eq!(decode(&[0b0000_0000]), None);
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None, "the symbol that ends nothing");
        assert_eq!(decode(&[]).unwrap(), b"");
    }
}
