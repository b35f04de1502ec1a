# A VAE in R with jsonlite, for: vae-ref verify --exec "Rscript vae.R"
# With the argument "bug", its KL lacks the 1/2.
if (!require(jsonlite, quietly = TRUE)) {
  cat('{"error": "it needs the package jsonlite"}\n')
  quit()
}
half <- if (identical(commandArgs(TRUE), "bug")) 1 else 1 / 2

# In R the first axis is the fastest, in the protocol the last: here each example is a column.
# A function returns its value, and the slopes of the sum of cotangent times value.
times <- function(slope, cotangent) slope * rep(cotangent, each = nrow(slope))

kl <- function(mu, logvar) list(
  value = half * colSums(mu^2 + expm1(logvar) - logvar),
  slopes = function(cotangent) list(
    mu = times(half * 2 * mu, cotangent),
    logvar = times(half * expm1(logvar), cotangent)
  )
)

reparameterize <- function(mu, logvar, seed) {
  set.seed(seed)
  eps <- rnorm(length(mu))
  sigma <- exp(logvar / 2)
  list(
    value = mu + sigma * eps,
    slopes = function(cotangent) list(mu = cotangent, logvar = cotangent * eps * sigma / 2)
  )
}

# The outputs are logits: plogis is the sigmoid.
nll <- function(outputs, x) list(
  value = colSums(-plogis(-outputs, log.p = TRUE) - x * outputs),
  slopes = function(cotangent) list(
    outputs = times(plogis(outputs) - x, cotangent),
    x = times(-outputs, cotangent)
  )
)

loss <- function(outputs, x, mu, logvar) {
  reconstruction <- nll(outputs, x)
  divergence <- kl(mu, logvar)
  list(
    value = reconstruction$value + divergence$value,
    slopes = function(cotangent) c(reconstruction$slopes(cotangent), divergence$slopes(cotangent))
  )
}

importance_weighted <- function(log_w) {
  most <- apply(log_w, 2, max)
  weights <- exp(sweep(log_w, 2, most))
  list(
    value = most + log(colMeans(weights)),
    slopes = function(cotangent) list(log_w = times(weights, cotangent / colSums(weights)))
  )
}

functions <- list(
  kl = kl, reparameterize = reparameterize, nll = nll, loss = loss,
  importance_weighted = importance_weighted
)

# Arrays travel as the bytes of their doubles: jsonlite writes 15 digits at most.
# If all rows are equal, they come as one, which array() repeats.
read <- function(given) {
  bytes <- base64_dec(given$base64)
  numbers <- readBin(bytes, "double", length(bytes) / 8, endian = "little")
  array(numbers, rev(given$shape))
}

write <- function(found) {
  lines <- base64_enc(writeBin(as.vector(found), raw(), endian = "little"))
  list(shape = I(rev(dim(as.array(found)))), base64 = gsub("\n", "", lines, fixed = TRUE))
}

start <- list(
  name = "vae.R", language = paste("R", getRversion()), gradients = TRUE,
  supports = names(functions), conventions = list(likelihood = "bernoulli-logits"),
  accepts = I("base64")
)

answer <- function(request) {
  if (request$do == "start") return(start)
  if (request$do != "case") stop("there is no request ", request$do)
  f <- functions[[request$`function`]]
  if (is.null(f)) stop("there is no function ", request$`function`)
  given <- c(lapply(request$inputs, read), request["seed"])
  found <- do.call(f, given[names(formals(f))])
  if (is.null(request$cotangent)) return(list(id = request$id, value = write(found$value)))
  list(id = request$id, slopes = lapply(found$slopes(read(request$cotangent)), write))
}

input <- file("stdin", "r")
while (length(line <- readLines(input, 1))) {
  request <- list()
  reply <- tryCatch({
    request <- as.list(parse_json(line, simplifyVector = TRUE))
    if (identical(request$do, "stop")) break
    answer(request)
  }, error = function(e) list(id = request$id, error = conditionMessage(e)))
  cat(toJSON(reply, auto_unbox = TRUE, null = "null"), "\n", sep = "")
  flush(stdout())
}
