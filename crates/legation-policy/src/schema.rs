//! The schemas of rules of admission and of placement, compiled in: unknown attributes, actions and types are errors before
//! anything runs.

use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};

/// The schema in Cedar's own syntax.
pub const TEXT: &str = include_str!("appraisal.cedarschema");

static SCHEMA: LazyLock<Option<Schema>> =
    LazyLock::new(|| Schema::from_cedarschema_str(TEXT).ok().map(|(schema, _warnings)| schema));

/// The schema; nothing only when the text that is compiled in is broken, which a test excludes.
pub(crate) fn schema() -> Option<&'static Schema> {
    SCHEMA.as_ref()
}

/// What rules of placement may ask about beside [`TEXT`].
pub const PLACEMENT: &str = include_str!("placement.cedarschema");

static PLACEMENT_SCHEMA: LazyLock<Option<Schema>> = LazyLock::new(|| {
    let text = [TEXT, PLACEMENT].concat();
    Schema::from_cedarschema_str(&text).ok().map(|(schema, _warnings)| schema)
});

/// The schema of rules of placement.
pub(crate) fn placement() -> Option<&'static Schema> {
    PLACEMENT_SCHEMA.as_ref()
}

/// The entity `kind::"id"`; `kind` is a word of the schema.
pub(crate) fn entity(kind: &str, id: &str) -> Option<EntityUid> {
    let kind: EntityTypeName = kind.parse().ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

#[cfg(test)]
mod tests {
    use legation_core::claims::{TcbStatus, TeeKind};

    use super::*;

    #[test]
    fn it_is_a_schema_without_warnings() {
        for text in [TEXT, &[TEXT, PLACEMENT].concat()] {
            let (_, warnings) = Schema::from_cedarschema_str(text).unwrap();
            assert_eq!(warnings.map(|w| w.to_string()).collect::<Vec<_>>(), [""; 0]);
        }
    }

    #[test]
    fn it_names_every_kind_and_every_status() {
        let names = TeeKind::ALL.iter().map(|k| k.name()).chain(TcbStatus::ALL.iter().map(|s| s.name()));
        for name in names {
            assert!(TEXT.contains(&format!("\"{name}\"")), "{name} is missing in appraisal.cedarschema");
        }
    }
}
