// A VAE in Rust, for: rustc -O vae.rs && vae-ref verify --exec ./vae
// With the argument "bug", its KL lacks the 1/2.
use std::{collections::HashMap, f64::consts::TAU, iter::Peekable, panic::catch_unwind, str::Chars};

// A line as flat text: {"inputs": {"mu": {"shape": [1, 2]}}} is "/inputs/mu/shape" with the words "1" and "2".
type Words = HashMap<String, Vec<String>>;

// The next character that counts: commas and colons are skipped, as blanks are.
fn peek(text: &mut Peekable<Chars>) -> char {
    while text.next_if(|c| ",: \t\r\n".contains(*c)).is_some() {}
    *text.peek().expect("the line ends too early")
}

// A string or a number. The strings of this protocol have no escapes.
fn word(text: &mut Peekable<Chars>) -> String {
    if text.next_if_eq(&'"').is_some() { return text.by_ref().take_while(|c| *c != '"').collect() }
    std::iter::from_fn(|| text.next_if(|c| !",]} \t\r\n".contains(*c))).collect()
}

fn read(text: &mut Peekable<Chars>, path: &str, words: &mut Words) {
    let first = peek(text);
    if !"{[".contains(first) { return words.entry(path.to_string()).or_default().push(word(text)) }
    if first == '[' { words.insert(path.to_string(), Vec::new()); }
    text.next();
    while !"]}".contains(peek(text)) {
        let inner = if first == '[' { path.to_string() } else { format!("{path}/{}", word(text)) };
        read(text, &inner, words);
    }
    text.next();
}

struct Array { shape: Vec<usize>, numbers: Vec<f64> }

impl Array {
    // Rust reads the words "inf", "-inf" and "nan" as numbers too.
    fn of(words: &Words, path: &str) -> Array {
        let shape = words[&format!("{path}/shape")].iter().map(|n| n.parse().unwrap()).collect();
        let numbers = words[&format!("{path}/numbers")].iter().map(|n| n.parse().unwrap()).collect();
        Array { shape, numbers }
    }
    fn json(&self) -> String {
        let number = |n: &f64| if n.is_finite() { format!("{n:?}") } else { format!("\"{n}\"").to_lowercase() };
        let numbers: Vec<String> = self.numbers.iter().map(number).collect();
        format!("{{\"shape\": {:?}, \"numbers\": [{}]}}", self.shape, numbers.join(", "))
    }
    // One value for each row: the sum of what its places add.
    fn rows(&self, term: impl Fn(usize) -> f64) -> Found {
        let (n, width) = (self.shape[0], self.shape[1]);
        let numbers = (0..n).map(|row| (row * width..(row + 1) * width).map(&term).sum()).collect();
        vec![("value", Array { shape: vec![n], numbers })]
    }
    // The number for each place, in the shape of this array.
    fn same_shape(&self, number: impl Fn(usize) -> f64) -> Array {
        Array { shape: self.shape.clone(), numbers: (0..self.numbers.len()).map(number).collect() }
    }
    // The slopes of the sum of cotangent times value, place by place.
    fn slopes(&self, cotangent: &Array, slope: impl Fn(usize) -> f64) -> Array {
        self.same_shape(|i| cotangent.numbers[i / self.shape[1]] * slope(i))
    }
}

// What a function finds: its value, or the slope of each input by name.
type Found = Vec<(&'static str, Array)>;
struct Case { words: Words, cotangent: Option<Array>, half: f64 }

impl Case {
    fn input(&self, name: &str) -> Array { Array::of(&self.words, &format!("/inputs/{name}")) }
    fn seed(&self) -> u64 { self.words["/seed"][0].parse().unwrap() }
}

fn kl(case: &Case) -> Found {
    let (mu, logvar, half) = (case.input("mu"), case.input("logvar"), case.half);
    let (m, v) = (&mu.numbers, &logvar.numbers);
    let Some(c) = &case.cotangent else { return mu.rows(|i| half * (m[i] * m[i] + v[i].exp_m1() - v[i])) };
    vec![("mu", mu.slopes(c, |i| half * 2.0 * m[i])), ("logvar", mu.slopes(c, |i| half * v[i].exp_m1()))]
}

// Standard normal noise: SplitMix64 for the bits, Box and Muller for the law.
fn noise(mut state: u64) -> impl FnMut() -> f64 {
    let mut uniform = move || {
        state = state.wrapping_add(0x9e3779b97f4a7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
        (((z ^ (z >> 31)) >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    };
    move || (-2.0 * uniform().ln()).sqrt() * (TAU * uniform()).cos()
}

fn reparameterize(case: &Case) -> Found {
    let (mu, logvar, mut normal) = (case.input("mu"), case.input("logvar"), noise(case.seed()));
    let spread: Vec<f64> = logvar.numbers.iter().map(|v| normal() * (v / 2.0).exp()).collect();
    let Some(c) = &case.cotangent else { return vec![("value", mu.same_shape(|i| mu.numbers[i] + spread[i]))] };
    vec![("mu", mu.same_shape(|i| c.numbers[i])), ("logvar", mu.same_shape(|i| c.numbers[i] * spread[i] / 2.0))]
}

// The outputs are logits.
fn nll(case: &Case) -> Found {
    let (outputs, x) = (case.input("outputs"), case.input("x"));
    let (a, b) = (&outputs.numbers, &x.numbers);
    let term = |i: usize| a[i].max(0.0) - b[i] * a[i] + (-a[i].abs()).exp().ln_1p();
    let Some(c) = &case.cotangent else { return outputs.rows(term) };
    let slope = outputs.slopes(c, |i| 1.0 / (1.0 + (-a[i]).exp()) - b[i]);
    vec![("outputs", slope), ("x", outputs.slopes(c, |i| -a[i]))]
}

// The reconstruction term and the KL of each example.
fn loss(case: &Case) -> Found {
    let (mut found, other) = (nll(case), kl(case));
    if case.cotangent.is_some() { return found.into_iter().chain(other).collect() }
    found[0].1.numbers.iter_mut().zip(&other[0].1.numbers).for_each(|(a, b)| *a += b);
    found
}

fn importance_weighted(case: &Case) -> Found {
    let log_w = case.input("log_w");
    let (w, width) = (&log_w.numbers, log_w.shape[1]);
    let most: Vec<f64> = w.chunks(width).map(|row| row.iter().copied().fold(f64::MIN, f64::max)).collect();
    let weight = |i: usize| (w[i] - most[i / width]).exp();
    let mut found = log_w.rows(weight);
    let total = &mut found[0].1.numbers;
    if let Some(c) = &case.cotangent { return vec![("log_w", log_w.slopes(c, |i| weight(i) / total[i / width]))] }
    total.iter_mut().zip(&most).for_each(|(t, m)| *t = m + (*t / width as f64).ln());
    found
}

const START: &str = "{\"name\": \"vae.rs\", \"language\": \"Rust\", \"gradients\": true, \
    \"supports\": [\"kl\", \"reparameterize\", \"nll\", \"loss\", \"importance_weighted\"], \
    \"conventions\": {\"likelihood\": \"bernoulli-logits\"}}";

fn answer(case: &Case) -> String {
    let functions: [(&str, fn(&Case) -> Found); 5] = [("kl", kl), ("reparameterize", reparameterize), ("nll", nll),
        ("loss", loss), ("importance_weighted", importance_weighted)];
    let (_, function) = functions.iter().find(|(name, _)| *name == case.words["/function"][0]).expect("no function");
    let members: Vec<String> = function(case).iter().map(|(name, a)| format!("\"{name}\": {}", a.json())).collect();
    if case.cotangent.is_none() { members.join(", ") } else { format!("\"slopes\": {{{}}}", members.join(", ")) }
}

fn main() {
    let half = if std::env::args().nth(1).as_deref() == Some("bug") { 1.0 } else { 0.5 };
    for line in std::io::stdin().lines() {
        let mut words = Words::new();
        read(&mut line.unwrap().chars().peekable(), "", &mut words);
        if words["/do"][0] == "stop" { return }
        if words["/do"][0] == "start" { println!("{START}"); continue }
        let cotangent = words.get("/cotangent/shape").map(|_| Array::of(&words, "/cotangent"));
        let case = Case { words, cotangent, half };
        let found = catch_unwind(|| answer(&case)).unwrap_or_else(|_| "\"error\": \"see the standard error\"".into());
        println!("{{\"id\": {}, {found}}}", case.words["/id"][0]); // println sends each whole line at once
    }
}
