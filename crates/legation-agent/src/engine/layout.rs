//! How large a component may become while it is compiled.
//!
//! A few hundred bytes can name the same thing twice, and that twice again: the compiler copies what is named at each use, and walks
//! each type whole at each function that has it, so they could ask for more memory or time than there is before any limit of the
//! pool is looked at. So what a component says is counted here as if it were written out, and what tools for the world
//! `legation:task` never write (bags of instances, parts that hold parts, types of modules and of components) is refused.
//!
//! Nothing here validates: whatever is wrong otherwise is found by the library, which reads the same bytes afterwards.

use std::fmt::Display;

use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentDefinedType, ComponentExport, ComponentExternalKind,
    ComponentImport, ComponentInstance, ComponentOuterAliasKind, ComponentType, ComponentTypeDeclaration,
    ComponentTypeRef, ComponentValType, FromReader, Import, Instance, InstanceTypeDeclaration, SectionLimited,
    TypeBounds,
};

use super::{
    CORE_INSTANCES_MAX,
    module::{PrepareError, shown},
};
use crate::monitor::calls::Sections;

/// Sections of components by number (component model, `Binary.md`).
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const COMPONENT: u8 = 4;
const INSTANCE: u8 = 5;
const ALIAS: u8 = 6;
const TYPE: u8 = 7;
const CANON: u8 = 8;
const IMPORT: u8 = 10;
const EXPORT: u8 = 11;
/// Types that hold declarations, by their first byte, and the declaration of a type, by its own.
const COMPONENT_TYPE: u8 = 0x41;
const INSTANCE_TYPE: u8 = 0x42;
const DECLARED_TYPE: u8 = 1;
/// The imports of a core module, by number (WebAssembly core specification, section 5.5.5).
const CORE_IMPORT: u8 = 2;

/// Most components within one; tools write one at most.
const COMPONENTS_MAX: u32 = 4;
/// Most instances of components; tools write one at most.
const INSTANCES_MAX: u32 = 8;
/// Most functions lifted and lowered; tools write about 14.
const CANONS_MAX: u32 = 1024;
/// Most imports of one core module: each of its instances copies them. Python's interpreter has about 900.
const CORE_IMPORTS_MAX: u32 = 1 << 12;
/// Most types within one another; tools write two at most.
const NESTED_MAX: usize = 16;
/// Most parts of one type, written out.
const TYPE_MAX: u64 = 1 << 12;
/// Most parts of all types at all their uses, written out.
const USES_MAX: u64 = 1 << 16;

/// Refuses what would grow.
pub(super) fn check(wasm: &[u8]) -> Result<(), PrepareError> {
    let mut layout = Layout { scopes: vec![Vec::new()], ..Layout::default() };
    for section in Sections::of(wasm).map_err(malformed)? {
        let (number, contents) = section.map_err(malformed)?;
        layout.root(number, contents)?;
    }
    Ok(())
}

/// What was counted so far.
#[derive(Default)]
struct Layout {
    /// Sizes of types by index: those of the root first, then those of what is being read within.
    scopes: Vec<Vec<u64>>,
    /// Of the types there are.
    largest: u64,
    uses: u64,
    core_instances: u32,
    components: u32,
    instances: u32,
    canons: u32,
}

impl Layout {
    /// One section of the component itself.
    fn root(&mut self, number: u8, contents: &[u8]) -> Result<(), PrepareError> {
        match number {
            CORE_MODULE => return check_module(contents),
            CORE_INSTANCE => {
                for instance in items::<Instance<'_>>(contents)? {
                    if let Instance::Instantiate { .. } = instance.map_err(malformed)? {
                        count(&mut self.core_instances, CORE_INSTANCES_MAX, "core module instances")?;
                    }
                }
            }
            COMPONENT => {
                count(&mut self.components, COMPONENTS_MAX, "components within it")?;
                self.scopes.push(Vec::new());
                for section in Sections::of(contents).map_err(malformed)? {
                    let (number, contents) = section.map_err(malformed)?;
                    self.named(number, contents)?;
                }
                self.scopes.pop();
            }
            INSTANCE => {
                for instance in items::<ComponentInstance<'_>>(contents)? {
                    count(&mut self.instances, INSTANCES_MAX, "instances of components")?;
                    let ComponentInstance::Instantiate { args, .. } = instance.map_err(malformed)? else {
                        return Err(unfit("it groups what it has into instances of its own"));
                    };
                    if !args.iter().all(|arg| is_plain(arg.kind)) {
                        return Err(unfit("it hands instances, modules or components to a component within it"));
                    }
                    // It has what the component exports, which has been counted.
                    self.used(self.uses)?;
                }
            }
            CANON => {
                for function in items::<CanonicalFunction>(contents)? {
                    count(&mut self.canons, CANONS_MAX, "functions lifted and lowered")?;
                    let size = match function.map_err(malformed)? {
                        CanonicalFunction::Lift { type_index, .. } => self.size(0, type_index),
                        _ => self.largest,
                    };
                    self.used(size)?;
                }
            }
            _ => return self.named(number, contents),
        }
        Ok(())
    }

    /// One section that names and types, of the component or of one within it, which may do no more: it could be instantiated many
    /// times, and what it held as often.
    fn named(&mut self, number: u8, contents: &[u8]) -> Result<(), PrepareError> {
        match number {
            CUSTOM => {}
            ALIAS => {
                for alias in items::<ComponentAlias<'_>>(contents)? {
                    self.alias(&alias.map_err(malformed)?)?;
                }
            }
            TYPE => {
                check_nesting(contents)?;
                for ty in items::<ComponentType<'_>>(contents)? {
                    let size = self.type_size(&ty.map_err(malformed)?)?;
                    self.define(size)?;
                }
            }
            IMPORT => {
                for import in items::<ComponentImport<'_>>(contents)? {
                    let ty = import.map_err(malformed)?.ty;
                    if self.is_within() && matches!(ty, ComponentTypeRef::Instance(_)) {
                        return Err(unfit("a component within it imports instances"));
                    }
                    let size = self.reference(ty)?;
                    self.used(size)?;
                }
            }
            EXPORT => {
                for export in items::<ComponentExport<'_>>(contents)? {
                    self.export(&export.map_err(malformed)?)?;
                }
            }
            _ if self.is_within() => {
                return Err(unfit("a component within it holds or instantiates modules or components of its own"));
            }
            other => return Err(unfit(&format!("it has a section {other}, which tools do not write"))),
        }
        Ok(())
    }

    fn export(&mut self, export: &ComponentExport<'_>) -> Result<(), PrepareError> {
        let size = match export.kind {
            ComponentExternalKind::Type => {
                let size = self.size(0, export.index);
                self.define(size)?;
                size
            }
            ComponentExternalKind::Func | ComponentExternalKind::Value => self.largest,
            // It has at most what was counted for it.
            ComponentExternalKind::Instance if !self.is_within() => self.uses,
            ComponentExternalKind::Instance | ComponentExternalKind::Module | ComponentExternalKind::Component => {
                return Err(unfit("it exports modules or components, or a component within it exports instances"));
            }
        };
        self.used(size.saturating_add(1))
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), PrepareError> {
        match alias {
            ComponentAlias::CoreInstanceExport { .. }
            | ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Func | ComponentExternalKind::Value, ..
            } => Ok(()),
            // Which one it is does not matter: it is no larger than the largest.
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Type, .. } => {
                self.define(self.largest.max(1))
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, count, index } => {
                let size = self.size(*count, *index);
                self.define(size)
            }
            ComponentAlias::InstanceExport { .. } | ComponentAlias::Outer { .. } => {
                Err(unfit("it has aliases of instances, modules or components"))
            }
        }
    }

    /// The size of what is imported, or exported by an instance, as this.
    fn reference(&mut self, ty: ComponentTypeRef) -> Result<u64, PrepareError> {
        let size = match ty {
            ComponentTypeRef::Func(index) | ComponentTypeRef::Instance(index) => self.size(0, index),
            ComponentTypeRef::Value(ty) => self.value(ty),
            ComponentTypeRef::Type(bounds) => {
                let size = match bounds {
                    TypeBounds::Eq(index) => self.size(0, index),
                    TypeBounds::SubResource => 1,
                };
                self.define(size)?;
                size
            }
            ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_) => {
                return Err(unfit("it imports modules or components"));
            }
        };
        Ok(size.saturating_add(1))
    }

    fn type_size(&mut self, ty: &ComponentType<'_>) -> Result<u64, PrepareError> {
        match ty {
            ComponentType::Defined(ty) => Ok(self.defined(ty)),
            ComponentType::Func(ty) => {
                let parts = ty.params.iter().map(|(_, ty)| *ty).chain(ty.result);
                Ok(self.sum(parts))
            }
            ComponentType::Resource { .. } => Ok(1),
            ComponentType::Component(_) => Err(unfit("it has types of components")),
            ComponentType::Instance(declarations) => {
                self.scopes.push(Vec::new());
                let mut size = 1_u64;
                for declaration in declarations {
                    match declaration {
                        InstanceTypeDeclaration::CoreType(_) => return Err(unfit("it has types of modules")),
                        InstanceTypeDeclaration::Type(ty) => {
                            let inner = self.type_size(ty)?;
                            self.define(inner)?;
                        }
                        InstanceTypeDeclaration::Alias(alias) => self.alias(alias)?,
                        InstanceTypeDeclaration::Export { ty, .. } => {
                            size = size.saturating_add(self.reference(*ty)?);
                        }
                    }
                }
                self.scopes.pop();
                Ok(size)
            }
        }
    }

    fn defined(&self, ty: &ComponentDefinedType<'_>) -> u64 {
        match ty {
            ComponentDefinedType::Primitive(_) | ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => 1,
            ComponentDefinedType::Record(fields) => self.sum(fields.iter().map(|(_, ty)| *ty)),
            // A case without a value is a part as well.
            ComponentDefinedType::Variant(cases) => {
                self.sum(cases.iter().filter_map(|case| case.ty)).saturating_add(cases.len() as u64)
            }
            ComponentDefinedType::List(ty) | ComponentDefinedType::Option(ty) => self.sum([*ty]),
            ComponentDefinedType::Map(key, value) => self.sum([*key, *value]),
            ComponentDefinedType::FixedLengthList(ty, length) => {
                self.value(*ty).saturating_mul(u64::from(*length)).saturating_add(1)
            }
            ComponentDefinedType::Tuple(types) => self.sum(types.iter().copied()),
            ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names) => {
                (names.len() as u64).saturating_add(1)
            }
            ComponentDefinedType::Result { ok, err } => self.sum(ok.iter().chain(err).copied()),
            ComponentDefinedType::Future(ty) | ComponentDefinedType::Stream(ty) => self.sum(*ty),
        }
    }

    /// One more than all of these.
    fn sum(&self, types: impl IntoIterator<Item = ComponentValType>) -> u64 {
        types.into_iter().fold(1_u64, |sum, ty| sum.saturating_add(self.value(ty)))
    }

    fn value(&self, ty: ComponentValType) -> u64 {
        match ty {
            ComponentValType::Primitive(_) => 1,
            ComponentValType::Type(index) => self.size(0, index),
        }
    }

    /// The size of the type with this index, so many scopes out. One that is not there has no room.
    fn size(&self, out: u32, index: u32) -> u64 {
        let place = usize::try_from(out).ok().zip(usize::try_from(index).ok());
        place.and_then(|(out, index)| self.scopes.iter().rev().nth(out)?.get(index)).copied().unwrap_or(u64::MAX)
    }

    /// A type of this size has the next index.
    fn define(&mut self, size: u64) -> Result<(), PrepareError> {
        if size > TYPE_MAX {
            return Err(unfit(&format!("one of its types, written out, has more than {TYPE_MAX} parts")));
        }
        self.largest = self.largest.max(size);
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(size);
        }
        Ok(())
    }

    fn used(&mut self, size: u64) -> Result<(), PrepareError> {
        self.uses = self.uses.saturating_add(size);
        if self.uses > USES_MAX {
            return Err(unfit(&format!("its types, written out at each use, have more than {USES_MAX} parts")));
        }
        Ok(())
    }

    fn is_within(&self) -> bool {
        self.scopes.len() > 1
    }
}

/// A core module within.
fn check_module(wasm: &[u8]) -> Result<(), PrepareError> {
    for section in Sections::of(wasm).map_err(malformed)? {
        let (number, contents) = section.map_err(malformed)?;
        if number == CORE_IMPORT && items::<Import<'_>>(contents)?.count() > CORE_IMPORTS_MAX {
            return Err(unfit(&format!("a module within it has more than {CORE_IMPORTS_MAX} imports")));
        }
    }
    Ok(())
}

/// Types within types of one section. The library reads each by a call within that of the one around it, and three bytes are a
/// level: so that no module exhausts the stack of this thread, they are read one after the other before.
fn check_nesting(section: &[u8]) -> Result<(), PrepareError> {
    let mut reader = BinaryReader::new(section, 0);
    // What is still to come: types of the section, then declarations of each type that holds what is read.
    let mut levels = vec![reader.read_var_u32().map_err(malformed)?];
    while let Some(left) = levels.last_mut() {
        let Some(rest) = left.checked_sub(1) else {
            levels.pop();
            continue;
        };
        *left = rest;
        let is_within = levels.len() > 1;
        let mut ahead = reader.clone();
        let is_type = !is_within || ahead.read_u8().map_err(malformed)? == DECLARED_TYPE;
        if is_type && matches!(ahead.read_u8().map_err(malformed)?, COMPONENT_TYPE | INSTANCE_TYPE) {
            if levels.len() > NESTED_MAX {
                return Err(unfit(&format!("it has more than {NESTED_MAX} types within types")));
            }
            levels.push(ahead.read_var_u32().map_err(malformed)?);
            reader = ahead;
        } else if is_within {
            // Those of a type of components are those of a type of instances, and imports.
            reader.read::<ComponentTypeDeclaration<'_>>().map_err(malformed)?;
        } else {
            reader.read::<ComponentType<'_>>().map_err(malformed)?;
        }
    }
    Ok(())
}

fn items<'a, T: FromReader<'a>>(section: &'a [u8]) -> Result<SectionLimited<'a, T>, PrepareError> {
    SectionLimited::new(BinaryReader::new(section, 0)).map_err(malformed)
}

/// Neither holds anything else.
fn is_plain(kind: ComponentExternalKind) -> bool {
    matches!(kind, ComponentExternalKind::Func | ComponentExternalKind::Type | ComponentExternalKind::Value)
}

fn count(counter: &mut u32, most: u32, what: &str) -> Result<(), PrepareError> {
    *counter = counter.saturating_add(1);
    if *counter > most {
        return Err(unfit(&format!("it has more than {most} {what}")));
    }
    Ok(())
}

fn malformed(error: impl Display) -> PrepareError {
    PrepareError::Malformed { reason: shown(&error.to_string()) }
}

fn unfit(reason: &str) -> PrepareError {
    PrepareError::DoesNotFit { reason: reason.to_owned() }
}
