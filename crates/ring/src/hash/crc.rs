//! The three CRCs, each with its accident.

/// CRC-16/XMODEM: polynomial 0x1021, most significant bit first.
const CRC16: [u16; 256] = crc16_table();

/// CRC-32 (IEEE): polynomial 0xedb88320, least significant bit first.
const CRC32: [u32; 256] = crc32_table();

/// The accumulator has 32 bits and is never masked, so the upper half is what was shifted out of the lower one.
pub(super) fn crc16(key: &[u8]) -> u32 {
    key.iter().fold(0, |crc: u32, &byte| {
        (crc << 8) ^ u32::from(CRC16[usize::from((crc >> 8) as u8 ^ byte)])
    })
}

/// The true CRC-16, as Redis Cluster uses it.
pub(crate) fn crc16_xmodem(key: &[u8]) -> u16 {
    (crc16(key) & 0xffff) as u16
}

/// As libmemcached cut it: bits 16 to 30 of the true one.
pub(super) fn crc32(key: &[u8]) -> u32 {
    (crc32a(key) >> 16) & 0x7fff
}

pub(super) fn crc32a(key: &[u8]) -> u32 {
    !key.iter().fold(u32::MAX, |crc, &byte| {
        (crc >> 8) ^ CRC32[usize::from(crc as u8 ^ byte)]
    })
}

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

const fn crc32_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ 0xedb8_8320
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{crc16_xmodem, crc32a};

    #[test]
    fn check_values_are_those_of_the_catalogue() {
        assert_eq!(crc16_xmodem(b"123456789"), 0x31c3);
        assert_eq!(crc32a(b"123456789"), 0xcbf4_3926);
    }
}
