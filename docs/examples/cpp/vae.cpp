// A VAE in C++17, for: g++ -O2 -std=c++17 vae.cpp -o vae && vae-ref verify --exec ./vae
// With the argument "bug", its KL lacks the 1/2.
#include <cmath>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

struct Array { std::vector<size_t> shape; std::vector<double> numbers; };
using Arrays = std::map<std::string, Array>;
using Term = std::function<double(size_t)>;
double half = 0.5;

// A reader of the requests alone: objects, lists of numbers, strings.
struct Reader {
    const std::string& text; size_t at = 0;
    char next() { while (isspace(text[at]) || text[at] == ',' || text[at] == ':') ++at; return text[at]; }
    std::string word() { next(); size_t end = text.find('"', ++at); auto s = text.substr(at, end - at); at = end + 1; return s; }
    double number() {
        if (next() == '"') {
            auto s = word();
            return s == "inf" ? INFINITY : s == "-inf" ? -INFINITY : NAN;
        }
        size_t used; double n = std::stod(text.substr(at, 40), &used); at += used; return n;
    }
    std::vector<double> list() {
        std::vector<double> found; next(); ++at;
        while (next() != ']') found.push_back(number());
        ++at; return found;
    }
    Array array() {
        Array a; next(); ++at;
        while (next() != '}') {
            bool is_shape = word() == "shape"; auto found = list();
            if (is_shape) a.shape.assign(found.begin(), found.end()); else a.numbers = found;
        }
        ++at; return a;
    }
    Arrays arrays() {
        Arrays found; next(); ++at;
        while (next() != '}') { auto name = word(); found[name] = array(); }
        ++at; return found;
    }
};

struct Request { std::string what, function; long id = 0; unsigned long seed = 0; Arrays inputs; Array cotangent; bool slopes = false; };

Request read(const std::string& line) {
    Reader r{line}; Request q; r.next(); ++r.at;
    while (r.next() != '}') {
        auto key = r.word();
        if (key == "do") q.what = r.word();
        else if (key == "function") q.function = r.word();
        else if (key == "inputs") q.inputs = r.arrays();
        else if (key == "cotangent") { q.cotangent = r.array(); q.slopes = true; }
        else { double n = r.number(); if (key == "id") q.id = n; if (key == "seed") q.seed = n; }
    }
    return q;
}

void write(std::ostream& out, const Array& a) {
    out << "{\"shape\": [";
    for (size_t i = 0; i < a.shape.size(); ++i) out << (i ? ", " : "") << a.shape[i];
    out << "], \"numbers\": [";
    for (size_t i = 0; i < a.numbers.size(); ++i) {
        double n = a.numbers[i]; out << (i ? ", " : "");
        if (std::isfinite(n)) out << n; else out << (n > 0 ? "\"inf\"" : n < 0 ? "\"-inf\"" : "\"nan\"");
    }
    out << "]}";
}

// One value for each row, and the slopes of the sum of cotangent times value, place by place.
Array rows(const Array& a, Term term) {
    Array v{{a.shape[0]}, std::vector<double>(a.shape[0])};
    for (size_t i = 0; i < a.numbers.size(); ++i) v.numbers[i / a.shape.back()] += term(i);
    return v;
}
Array slopes(const Array& a, const Array& c, Term slope) {
    Array v{a.shape, std::vector<double>(a.numbers.size())};
    for (size_t i = 0; i < v.numbers.size(); ++i) v.numbers[i] = c.numbers[i / a.shape.back()] * slope(i);
    return v;
}
Array same(const Array& a, Term term) {
    Array v{a.shape, {}};
    for (size_t i = 0; i < a.numbers.size(); ++i) v.numbers.push_back(term(i));
    return v;
}
double softplus(double a) { return std::max(a, 0.0) + std::log1p(std::exp(-std::abs(a))); }

Arrays answer(Request& q) {
    auto of = [&](const char* name) -> Array& { return q.inputs[name]; };
    auto &mu = of("mu"), &logvar = of("logvar"), &a = of("outputs"), &x = of("x"), &w = of("log_w");
    auto &m = mu.numbers, &v = logvar.numbers; auto& c = q.cotangent;
    if (q.function == "reparameterize") {
        std::mt19937_64 bits(q.seed); std::normal_distribution<double> normal;
        std::vector<double> eps(m.size()); for (auto& e : eps) e = normal(bits);
        if (!q.slopes) return {{"value", same(mu, [&](size_t i) { return m[i] + eps[i] * std::exp(v[i] / 2); })}};
        return {{"mu", c}, {"logvar", same(mu, [&](size_t i) { return c.numbers[i] * eps[i] * std::exp(v[i] / 2) / 2; })}};
    }
    if (q.function == "importance_weighted") {
        size_t width = w.shape.back(); std::vector<double> most(w.shape[0], -INFINITY), total(w.shape[0]);
        for (size_t i = 0; i < w.numbers.size(); ++i) most[i / width] = std::max(most[i / width], w.numbers[i]);
        for (size_t i = 0; i < w.numbers.size(); ++i) total[i / width] += std::exp(w.numbers[i] - most[i / width]);
        if (q.slopes) return {{"log_w", slopes(w, c, [&](size_t i) { return std::exp(w.numbers[i] - most[i / width]) / total[i / width]; })}};
        Array bound{{most.size()}, {}};
        for (size_t i = 0; i < most.size(); ++i) bound.numbers.push_back(most[i] + std::log(total[i] / width));
        return {{"value", bound}};
    }
    bool all = q.function == "loss"; Arrays found; double sum = 0;
    if (all && q.slopes) c = {{mu.shape[0]}, std::vector<double>(mu.shape[0], c.numbers[0])};
    if (all || q.function == "kl") {
        if (q.slopes) {
            found["mu"] = slopes(mu, c, [&](size_t i) { return half * 2 * m[i]; });
            found["logvar"] = slopes(mu, c, [&](size_t i) { return half * std::expm1(v[i]); });
        } else found["value"] = rows(mu, [&](size_t i) { return half * (m[i] * m[i] + std::expm1(v[i]) - v[i]); });
        for (double n : found["value"].numbers) sum += n;
    }
    if (all || q.function == "nll") {  // of logits
        if (q.slopes) {
            found["outputs"] = slopes(a, c, [&](size_t i) { return 1 / (1 + std::exp(-a.numbers[i])) - x.numbers[i]; });
            found["x"] = slopes(a, c, [&](size_t i) { return -a.numbers[i]; });
        } else found["value"] = rows(a, [&](size_t i) { return softplus(a.numbers[i]) - x.numbers[i] * a.numbers[i]; });
        for (double n : found["value"].numbers) sum += n;
    }
    if (q.slopes) found.erase("value"); else if (all) found["value"] = {{}, {sum}};
    return found;
}

int main(int count, char** words) {
    if (count > 1 && std::string(words[1]) == "bug") half = 1;
    for (std::string line; std::getline(std::cin, line);) {
        Request q = read(line);
        if (q.what == "stop") break;
        std::ostringstream out; out.precision(std::numeric_limits<double>::max_digits10);
        if (q.what == "start") out << R"({"name": "vae.cpp", "language": "C++17", "gradients": true, "supports": ["kl", "reparameterize", "nll", "loss", "importance_weighted"], "conventions": {"likelihood": "bernoulli-logits"}})";
        else {
            out << "{\"id\": " << q.id << (q.slopes ? ", \"slopes\": {" : ""); const char* comma = q.slopes ? "" : ", ";
            for (auto& [name, array] : answer(q)) { out << comma << '"' << name << "\": "; write(out, array); comma = ", "; }
            out << (q.slopes ? "}}" : "}");
        }
        std::cout << out.str() << std::endl;
    }
}
