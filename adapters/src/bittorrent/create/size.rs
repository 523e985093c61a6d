//! How large pieces are when nobody says it.

/// The smallest and the largest that are chosen.
const SMALLEST: u64 = 16 << 10;
const LARGEST: u64 = 16 << 20;
/// Bytes in all up to which the smallest is taken, times 100.
const HUNDREDFOLD: u64 = 256 << 20;

/// Bytes of a piece for so many bytes in all, as libtorrent chooses them: from 16 KiB for up to 2.56 MiB, twice as many
/// each time there is four times as much, to 16 MiB. Thus small torrents have few pieces, and large ones no huge lists:
/// 1 GiB has 2,048 pieces.
#[must_use]
pub fn default_piece_length(total: u64) -> u64 {
    let mut size = SMALLEST;
    let mut most = u128::from(HUNDREDFOLD);
    while u128::from(total) * 100 > most && size < LARGEST {
        size *= 2;
        most *= 4;
    }
    size
}
