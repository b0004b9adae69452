//! JSON as values of CEL, without copying it: a condition looks at one or two values of a body.

use std::collections::BTreeMap;

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Sizer};
use cel::common::types::{self, CelBool, CelDouble, CelInt, CelNull, CelString, CelUInt, Type};
use cel::common::value::{CowVal, Val};
use serde_json::{Map, Value};

/// What has parts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Nested<'a> {
    Object(&'a Map<String, Value>),
    List(&'a [Value]),
    Query(&'a BTreeMap<String, String>),
}

/// `value` in CEL's types. A number that is neither an i64 nor a u64 is a double.
pub(super) fn value<'b, 'v>(value: &'v Value) -> CowVal<'b, 'v> {
    match value {
        Value::Null => CowVal::owned(CelNull),
        Value::Bool(boolean) => CowVal::owned(CelBool::from(*boolean)),
        Value::String(text) => CowVal::owned(CelString::from(text.as_str())),
        Value::Array(items) => CowVal::owned(Nested::List(items)),
        Value::Object(object) => CowVal::owned(Nested::Object(object)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => CowVal::owned(CelInt::from(integer)),
            (None, Some(integer)) => CowVal::owned(CelUInt::from(integer)),
            (None, None) => CowVal::owned(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
    }
}

impl<'a> Nested<'a> {
    fn part<'b, 'v>(&self, index: &dyn Val) -> Option<CowVal<'b, 'v>>
    where
        'a: 'v,
    {
        match self {
            Self::Object(object) => object.get(key(index)?).map(value),
            Self::Query(query) => query
                .get(key(index)?)
                .map(|text| CowVal::owned(CelString::from(text.as_str()))),
            Self::List(items) => {
                let place = index.downcast_ref::<CelInt>()?;
                items.get(usize::try_from(*place.inner()).ok()?).map(value)
            }
        }
    }
}

fn key(index: &dyn Val) -> Option<&str> {
    index.downcast_ref::<CelString>().map(|text| text.inner())
}

fn absent(index: &dyn Val) -> ExecutionError {
    ExecutionError::no_such_key(key(index).unwrap_or("of another type"))
}

impl Val for Nested<'_> {
    fn get_type(&self) -> &Type {
        match self {
            Self::Object(_) | Self::Query(_) => &types::MAP_TYPE,
            Self::List(_) => &types::LIST_TYPE,
        }
    }

    fn cel_type() -> &'static Type {
        &types::DYN_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Indexer for Nested<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.part(index).ok_or_else(|| absent(index))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let part: CowVal<'_, 'v> = self.part(index).ok_or_else(|| absent(index))?;
        Ok(part.into_owned())
    }
}

/// `"key" in map` looks at keys, `value in list` at values, as in CEL.
impl Container for Nested<'_> {
    fn contains(&self, wanted: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(match self {
            Self::Object(object) => key(wanted).is_some_and(|key| object.contains_key(key)),
            Self::Query(query) => key(wanted).is_some_and(|key| query.contains_key(key)),
            Self::List(items) => items.iter().any(|item| value(item).equals(wanted)),
        })
    }
}

impl Sizer for Nested<'_> {
    fn size(&self) -> CelInt {
        let size = match self {
            Self::Object(object) => object.len(),
            Self::Query(query) => query.len(),
            Self::List(items) => items.len(),
        };
        CelInt::from(i64::try_from(size).unwrap_or(i64::MAX))
    }
}
