//! Expressions of Prometheus, and what they are about.

use std::collections::BTreeSet;

use promql_parser::{
    label::MatchOp,
    parser::{self, Expr, LabelModifier, VectorSelector},
};

use super::scrape::Metrics;

/// Labels that Prometheus gives to all it scrapes.
const OWN: [&str; 2] = ["instance", "job"];

/// An expression that can be evaluated.
#[derive(Debug)]
pub(super) struct Expression(Expr);

impl Expression {
    #[track_caller]
    pub(super) fn read(text: &str) -> Self {
        Self(parser::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}")))
    }

    /// The names of all samples that it is about.
    pub(super) fn names(&self) -> Vec<String> {
        selectors(&self.0).into_iter().filter_map(|selector| selector.name.clone()).collect()
    }

    /// What of it there is not.
    pub(super) fn problems(&self, metrics: &Metrics) -> Vec<String> {
        let mut problems = Vec::new();
        for selector in selectors(&self.0) {
            let Some(name) = &selector.name else {
                problems.push(format!("{selector} names no metric"));
                continue;
            };
            if !metrics.knows(name) {
                problems.push(format!("there is no {name}"));
            }
            for matcher in &selector.matchers.matchers {
                if OWN.contains(&matcher.name.as_str()) {
                    continue;
                }
                if !metrics.has(name, &matcher.name) {
                    problems.push(format!("{name} has no label {}", matcher.name));
                }
                let Some(values) = metrics.values(name, &matcher.name) else { continue };
                let is_there = match &matcher.op {
                    MatchOp::Equal | MatchOp::NotEqual => values.contains(&matcher.value),
                    // Each of its alternatives.
                    MatchOp::Re(_) | MatchOp::NotRe(_) => {
                        matcher.value.split('|').all(|value| values.contains(value))
                    }
                };
                if !is_there {
                    let label = format!("{}=\"{}\"", matcher.name, matcher.value);
                    problems.push(format!("{name} has no {label}"));
                }
            }
        }
        groupings(&self.0, metrics, &mut problems);
        problems
    }

    /// Whether what it yields has a label.
    pub(super) fn has(&self, metrics: &Metrics, label: &str) -> bool {
        labels(&self.0, metrics).is_none_or(|labels| labels.contains(label))
    }
}

/// What an expression is made of.
fn parts(expression: &Expr) -> Vec<&Expr> {
    match expression {
        Expr::Aggregate(of) => [&of.expr].into_iter().chain(&of.param).map(|it| &**it).collect(),
        Expr::Unary(of) => vec![&of.expr],
        Expr::Binary(of) => vec![&of.lhs, &of.rhs],
        Expr::Paren(of) => vec![&of.expr],
        Expr::Subquery(of) => vec![&of.expr],
        Expr::Call(of) => of.args.args.iter().map(|it| &**it).collect(),
        _ => Vec::new(),
    }
}

fn selectors(expression: &Expr) -> Vec<&VectorSelector> {
    match expression {
        Expr::VectorSelector(selector) => vec![selector],
        Expr::MatrixSelector(matrix) => vec![&matrix.vs],
        _ => parts(expression).into_iter().flat_map(selectors).collect(),
    }
}

/// Labels that something is grouped by, and does not have.
fn groupings(expression: &Expr, metrics: &Metrics, problems: &mut Vec<String>) {
    if let Expr::Aggregate(of) = expression
        && let Some(LabelModifier::Include(by)) = &of.modifier
    {
        for selector in selectors(&of.expr) {
            let name = selector.name.as_deref().unwrap_or_default();
            for label in &by.labels {
                if !OWN.contains(&label.as_str()) && !metrics.has(name, label) {
                    problems.push(format!("{name} has no label {label} to group by"));
                }
            }
        }
    }
    for part in parts(expression) {
        groupings(part, metrics, problems);
    }
}

/// The labels of what an expression yields. `None`: that is not known.
fn labels(expression: &Expr, metrics: &Metrics) -> Option<BTreeSet<String>> {
    match expression {
        Expr::Aggregate(of) => match &of.modifier {
            Some(LabelModifier::Include(by)) => Some(by.labels.iter().cloned().collect()),
            Some(LabelModifier::Exclude(_)) => None,
            None => Some(BTreeSet::new()),
        },
        Expr::Binary(of) => labels(&of.lhs, metrics),
        Expr::Call(of) => of.args.args.iter().find_map(|it| labels(it, metrics)).map(|mut all| {
            if of.func.name == "histogram_quantile" {
                all.remove("le");
            }
            all
        }),
        Expr::VectorSelector(_) | Expr::MatrixSelector(_) => {
            let name = selectors(expression).first()?.name.clone()?;
            let own = OWN.map(str::to_owned);
            Some(metrics.labels(&name)?.into_iter().chain(own).collect())
        }
        Expr::Paren(of) => labels(&of.expr, metrics),
        Expr::Unary(of) => labels(&of.expr, metrics),
        _ => None,
    }
}
