//! The words of titles.

use icu_normalizer::ComposingNormalizerBorrowed;

/// Gives each word of a text in lower case, in order, repeated ones too: runs of letters and digits. Each character of
/// a script that puts no spaces between words is a word of its own. Letters that Unicode writes in several ways are
/// one (NFKC): a name from a Mac is found by what is typed elsewhere.
pub(super) fn each_word(text: &str, mut each: impl FnMut(&str)) {
    const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();
    let text = if text.is_ascii() { text.into() } else { NFKC.normalize(text) };
    let mut word = String::new();
    for letter in text.chars() {
        let alone = is_alone(letter);
        if (alone || !letter.is_alphanumeric()) && !word.is_empty() {
            each(&word);
            word.clear();
        }
        if letter.is_ascii() {
            if letter.is_ascii_alphanumeric() {
                word.push(letter.to_ascii_lowercase());
            }
        } else if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
        if alone {
            each(&word);
            word.clear();
        }
    }
    if !word.is_empty() {
        each(&word);
    }
}

/// Kana, and ideographs of Chinese, Japanese and Korean.
fn is_alone(letter: char) -> bool {
    matches!(
        u32::from(letter),
        0x3041..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF
    ) && letter.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        let words = |text: &str| {
            let mut words = Vec::new();
            each_word(text, |word| words.push(word.to_owned()));
            words
        };
        assert_eq!(words("My_Film-2 (1999).AVI"), ["my", "film", "2", "1999", "avi"]);
        assert_eq!(words("ÄRGER im Übermaß"), ["ärger", "im", "übermaß"]);
        assert_eq!(words("Cafe\u{301} ﬁn ＡＢＣ"), ["café", "fin", "abc"]);
        assert_eq!(words("東京 Tōkyō2020話"), ["東", "京", "tōkyō2020", "話"]);
        assert_eq!(words("Москва·МОСКВА"), ["москва", "москва"]);
        assert!(words("…!?・ \u{301}").is_empty());
    }
}
