//! The condition of a rule, `when`: an expression in CEL (<https://cel.dev>) over one record.
//!
//! Compiled once, when the rules are read. An operator's rule must not be able to stop the worker, so what has no
//! bound is refused then and not met later: comprehensions (`exists`, `all`, `map`, `filter`: a nested one of 129
//! characters takes milliseconds a record), functions and names that do not exist, and expressions of more than
//! [`CHARS_MAX`] characters or [`LEVELS_MAX`] levels. There is no `matches`: the library compiles a pattern at every call, 96 us; `contains`,
//! `startsWith` and `endsWith` serve.
//!
//! A field of text that the record does not have is the empty text, so `platform != "RESTAPI"` holds for a record
//! without platform. A value that `query` or `body` does not have is an error, unless `has(body.GroupId)` was asked
//! first. With an error the condition does not hold.

mod json;

use std::sync::{Arc, LazyLock};
use std::thread;

use cel::common::ast::{Expr, IdedExpr, operators};
use cel::common::types::{CelBool, CelInt, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Program, Value};

use crate::field::{Fields, Root};

/// The longest expression: enough for a list of a hundred names.
pub(crate) const CHARS_MAX: usize = 2_000;

/// The deepest expression. Evaluation takes up to 50 KB of stack a level in an unoptimised build, and whoever evaluates
/// may run on a thread of 2 MB. `&&` and `||` of any number are one level for each doubling.
const LEVELS_MAX: usize = 24;

/// The parser takes more, 100 KB a level, and goes down a hundred levels before it refuses. It runs once, so it gets a
/// thread with room; of its stack only what is touched is taken.
const PARSER_STACK_BYTES: usize = 64 << 20;

const FORM: &str = "a condition in CEL, such as platform != \"RESTAPI\"";

/// The functions of CEL that take bounded time.
const FUNCTIONS: [&str; 11] = [
    "bool",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// Operators are calls to the parser.
const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];

/// Building it takes 29 us, so all conditions share one. The optional syntax is left out: `has` serves.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// A condition that was compiled and checked.
#[derive(Clone, Debug)]
pub(crate) struct Condition(Arc<Program>);

/// Why a text is no condition, as the operator reads it: what was found, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) found: String,
    pub(crate) allowed: String,
}

/// Why a condition could not be evaluated over a record.
#[derive(Debug, thiserror::Error)]
pub enum ConditionError {
    /// A value is missing or of another type.
    #[error("condition cannot be evaluated")]
    Execution(#[source] ExecutionError),
    /// The expression ended with something that is neither true nor false.
    #[error("condition is neither true nor false")]
    NotBoolean,
}

impl Condition {
    pub(crate) fn parse(text: &str) -> Result<Self, Unfit> {
        let chars = text.chars().count();
        if chars > CHARS_MAX {
            return Err(Unfit {
                found: format!("{chars} characters"),
                allowed: format!("at most {CHARS_MAX} characters"),
            });
        }
        let parsed = thread::scope(|scope| {
            let parser = thread::Builder::new().stack_size(PARSER_STACK_BYTES);
            let parser = parser.spawn_scoped(scope, || compile(text)).ok()?;
            parser.join().ok()
        });
        let program = parsed.unwrap_or_else(|| {
            Err(Unfit {
                found: "an expression that the parser fails on".to_owned(),
                allowed: FORM.to_owned(),
            })
        })?;
        Ok(Self(Arc::new(program)))
    }

    pub(crate) fn holds(&self, fields: &Fields<'_>) -> Result<bool, ConditionError> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(fields);
        let value = Value::resolve_val(self.0.expression(), &context).map_err(ConditionError::Execution)?;
        value
            .downcast_ref::<CelBool>()
            .map(|boolean| *boolean.inner())
            .ok_or(ConditionError::NotBoolean)
    }
}

impl VariableResolver for Fields<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let value = match Root::parse(name)? {
            Root::App => {
                let app = self.record().app.map_or(0, |app| app.0);
                CowVal::owned(CelInt::from(i64::try_from(app).unwrap_or(i64::MAX)))
            }
            Root::Query => CowVal::owned(json::Nested::Query(&self.record().query)),
            Root::Body => json::value(self.body()),
            root => CowVal::owned(CelString::from(self.text(root).unwrap_or(""))),
        };
        Some(value)
    }
}

fn compile(text: &str) -> Result<Program, Unfit> {
    let program = ENVIRONMENT.compile(text).map_err(|errors| Unfit {
        found: errors.to_string().replace('\n', " "),
        allowed: FORM.to_owned(),
    })?;
    check(program.expression(), 1)?;
    Ok(program)
}

/// Refuses what has no bound or does not exist.
fn check(node: &IdedExpr, level: usize) -> Result<(), Unfit> {
    if level > LEVELS_MAX {
        return Err(Unfit {
            found: format!("an expression of more than {LEVELS_MAX} levels"),
            allowed: format!("at most {LEVELS_MAX} levels"),
        });
    }
    let below = |node: &IdedExpr| check(node, level + 1);
    match &node.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => known_field(name),
        Expr::Select(select) => below(&select.operand),
        Expr::List(list) => list.elements.iter().try_for_each(below),
        Expr::Call(call) => {
            known_function(&call.func_name)?;
            call.target.iter().try_for_each(|target| below(target))?;
            call.args.iter().try_for_each(below)
        }
        Expr::Comprehension(_) => Err(Unfit {
            found: "a comprehension".to_owned(),
            allowed: "no exists, all, exists_one, map or filter: their time has no bound".to_owned(),
        }),
        Expr::Map(_) | Expr::Struct(_) => Err(Unfit {
            found: "a map or message in braces".to_owned(),
            allowed: "fields, texts, numbers and lists".to_owned(),
        }),
    }
}

fn known_field(name: &str) -> Result<(), Unfit> {
    if Root::parse(name).is_some() {
        return Ok(());
    }
    Err(Unfit {
        found: format!("an unknown field {name:?}"),
        allowed: Root::ALL.map(Root::name).join(", "),
    })
}

fn known_function(name: &str) -> Result<(), Unfit> {
    if OPERATORS.contains(&name) || FUNCTIONS.contains(&name) {
        return Ok(());
    }
    Err(Unfit {
        found: format!("an unknown function {name:?}"),
        allowed: format!("{} and has", FUNCTIONS.join(", ")),
    })
}
