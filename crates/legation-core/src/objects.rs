//! JSON in which a struct is an object and a word is a text, and nothing else is either.
//!
//! What serde derives reads more than it writes: a struct also from an array of its fields in their order, a variant that is told
//! by a field also from an array that begins with it, a word also from `{"word":null}`. Whoever reads statements in another
//! language would find nothing there, and `jq` would show no field of what we believed. So statements are read through
//! [`from_slice`], which stands between serde and `serde_json` and lets none of these pass. It reads each byte once.
//!
//! Variants that are told by a field beside their own hold no lists: serde keeps them in a form in which lists and structs can no
//! longer be told apart, so all lists in them are refused.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};

/// Reads all of a text as one value.
///
/// # Errors
/// It is no JSON, another value, in one of the spellings above, or there is more behind it.
pub(crate) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    // What is text as a whole is not looked through again name by name.
    match std::str::from_utf8(text) {
        Ok(text) => read(serde_json::Deserializer::from_str(text)),
        Err(_) => read(serde_json::Deserializer::from_slice(text)),
    }
}

fn read<'de, T: Deserialize<'de>, R: serde_json::de::Read<'de>>(
    mut json: serde_json::Deserializer<R>,
) -> Result<T, serde_json::Error> {
    let value = T::deserialize(Strict(&mut json))?;
    json.end()?;
    Ok(value)
}

/// A deserializer, or what reads from one, in which these spellings are refused at any depth.
struct Strict<T>(T);

macro_rules! as_they_are {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(visitor)
        }
    )*};
}

macro_rules! inside {
    ($($method:ident($($name:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* Inside { visitor, lists: true })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    as_they_are! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    inside! {
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_option()
        deserialize_seq()
        deserialize_map()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Variant(visitor))
    }

    /// What asks for anything is a variant that is told by a field.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Inside { visitor, lists: false })
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// A visitor of what may hold other values.
struct Inside<V> {
    visitor: V,
    /// Whether it may be a list.
    lists: bool,
}

macro_rules! visits {
    ($($method:ident($type:ty))*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Inside<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    visits! {
        visit_bool(bool)
        visit_i64(i64)
        visit_u64(u64)
        visit_f64(f64)
        visit_str(&str)
        visit_borrowed_str(&'de str)
        visit_string(String)
        visit_bytes(&[u8])
        visit_borrowed_bytes(&'de [u8])
        visit_byte_buf(Vec<u8>)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Strict(value))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Strict(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        match self.lists {
            true => self.visitor.visit_seq(Strict(items)),
            false => Err(A::Error::invalid_type(Unexpected::Seq, &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Strict(fields))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    /// Names of fields are texts already.
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(value))
    }
}

/// A visitor of a variant: a word is a text, one with content is an object of one field.
struct Variant<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Variant<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<V::Value, E> {
        let word: StrDeserializer<'_, E> = word.into_deserializer();
        self.0.visit_enum(word)
    }

    /// That there is no second field is checked by whoever reads the object to its end.
    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(OneField(fields))
    }
}

/// The variant that an object of one field names.
struct OneField<A>(A);

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for OneField<A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<(S::Value, Self), A::Error> {
        match self.0.next_key_seed(seed)? {
            Some(name) => Ok((name, self)),
            None => Err(A::Error::invalid_length(0, &"one field")),
        }
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for OneField<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        Err(A::Error::invalid_type(Unexpected::Map, &"a text"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    /// None of ours is one.
    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, A::Error> {
        Err(A::Error::invalid_type(Unexpected::TupleVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(Fields(visitor))
    }
}

/// The fields of a variant.
struct Fields<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Fields<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        Strict(value).deserialize_map(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        part: Part,
        #[serde(default)]
        more: Option<Part>,
        #[serde(default)]
        list: Vec<Part>,
        #[serde(default)]
        pairs: Vec<(u8, u8)>,
        #[serde(default)]
        named: BTreeMap<String, Part>,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Part {
        number: u64,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(rename_all = "lowercase", deny_unknown_fields)]
    enum Outer {
        Word,
        Held(Part),
        Fields { number: u64 },
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
    enum Inner {
        Empty {},
        Held(Part),
        Deep { part: Part },
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(tag = "kind", content = "value", rename_all = "lowercase", deny_unknown_fields)]
    enum Beside {
        Held(Part),
    }

    fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
        from_slice(text.as_bytes()).ok()
    }

    fn loose<T: DeserializeOwned>(text: &str) -> bool {
        serde_json::from_str::<T>(text).is_ok()
    }

    /// What is written as it should be is read as serde reads it; what serde alone would let pass is refused.
    fn only<T: DeserializeOwned + PartialEq + fmt::Debug>(good: &[&str], lists: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(read::<T>(text), serde_json::from_str(text).ok(), "{text}");
            assert!(loose::<T>(text), "{text}");
        }
        for text in lists {
            assert!(loose::<T>(text), "{text}: nothing to refuse");
            assert_eq!(read::<T>(text), None, "{text}");
        }
        for text in bad {
            assert!(!loose::<T>(text), "{text}");
            assert_eq!(read::<T>(text), None, "{text}");
        }
    }

    #[test]
    fn a_struct_is_an_object_at_any_depth() {
        only::<Whole>(
            &[
                r#"{"part":{"number":1}}"#,
                r#" {"list":[],"more":null,"part":{"number":18446744073709551615}} "#,
                r#"{"part":{"number":1},"more":{"number":2},"list":[{"number":3},{"number":4}],"pairs":[[1,2]],"named":{"a":{"number":5}}}"#,
            ],
            &[
                r#"[{"number":1}]"#,
                r#"{"part":[1]}"#,
                r#"{"part":{"number":1},"more":[2]}"#,
                r#"{"part":{"number":1},"list":[{"number":3},[4]]}"#,
                r#"{"part":{"number":1},"named":{"a":[5]}}"#,
            ],
            &[
                "",
                "[]",
                "{}",
                r#"{"part":{"number":1}} {}"#,
                r#"{"part":{"number":1},"part":{"number":1}}"#,
                r#"{"part":{"number":1,"more":1}}"#,
                r#"{"part":{"number":-1}}"#,
                r#"{"part":{"number":1},"list":{}}"#,
                r#"{"part":{"number":1}"#,
            ],
        );
    }

    #[test]
    fn a_word_is_a_text() {
        only::<Outer>(
            &[r#""word""#, r#"{"held":{"number":1}}"#, r#"{"fields":{"number":1}}"#],
            &[r#"{"word":null}"#, r#"{"held":[1]}"#, r#"{"fields":[1]}"#],
            &[
                r#""held""#,
                r#""fields""#,
                r#""other""#,
                r#"["word"]"#,
                "{}",
                "1",
                r#"{"held":{"number":1},"fields":{"number":1}}"#,
                r#"{"held":{"number":1},"held":{"number":1}}"#,
                r#"{"fields":{"number":1,"more":1}}"#,
            ],
        );
        only::<Vec<Option<Outer>>>(&[r#"["word",null]"#], &[r#"[{"word":null}]"#], &[r#"{"word":null}"#]);
    }

    #[test]
    fn a_variant_told_by_a_field_is_an_object() {
        only::<Inner>(
            &[r#"{"kind":"empty"}"#, r#"{"number":1,"kind":"held"}"#, r#"{"part":{"number":1},"kind":"deep"}"#],
            &[r#"["held",1]"#, r#"["deep",[1]]"#, r#"{"part":[1],"kind":"deep"}"#, r#"{"kind":"deep","part":[1]}"#],
            &[r#"{"kind":"empty","more":1}"#, r#"{"kind":"held"}"#, r#"{"kind":"empty","kind":"empty"}"#, "{}", "1"],
        );
        only::<Beside>(
            &[r#"{"kind":"held","value":{"number":1}}"#, r#"{"value":{"number":1},"kind":"held"}"#],
            &[r#"["held",{"number":1}]"#, r#"{"kind":"held","value":[1]}"#, r#"{"value":[1],"kind":"held"}"#],
            &[r#"{"kind":"held"}"#, r#"{"kind":"held","value":{"number":1},"more":1}"#],
        );
    }
}
