(function () {
  "use strict";
  var root = document.documentElement, SVG = "http://www.w3.org/2000/svg";
  root.classList.add("js");
  var at = function (id) { return document.getElementById(id); };

  var dark = function () {
    var said = root.dataset.theme;
    return said ? said === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  var button = at("theme");
  var name = function () { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", function () { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  name();

  // Everything that is shown is text, never markup: names and dialogues are anybody's.
  var make = function (tag, attributes, children) {
    var found = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (key) {
      if (key === "text") { found.textContent = attributes[key]; } else { found.setAttribute(key, attributes[key]); }
    });
    (children || []).forEach(function (child) { if (child) { found.append(child); } });
    return found;
  };
  var draw = function (tag, attributes, text) {
    var found = document.createElementNS(SVG, tag);
    Object.keys(attributes || {}).forEach(function (key) { found.setAttribute(key, attributes[key]); });
    if (text !== undefined) { found.textContent = text; }
    return found;
  };
  var spaced = function (text) { return text.replace(/(\d)%/g, "$1\u202f%"); };
  var sentence = function (text) { return spaced(text.charAt(0).toUpperCase() + text.slice(1)); };
  // A command breaks between its words, not inside an option.
  var command = function (text) {
    return make("code", {}, text.split(" ").reduce(function (all, word) { return all.concat(all.length ? " " : [], make("span", word.length < 30 ? { text: word, "class": "word" } : { text: word })); }, []));
  };
  var fill = function (id, children) { at(id).replaceChildren.apply(at(id), children.filter(Boolean)); };

  var NONE = "–", HEADS = ["sensibility", "rationality"], SETS = ["sensibility", "rationality", "discard"];
  var missing = function (value) { return value === null || value === undefined; };
  var count = function (value) { return missing(value) ? NONE : value.toLocaleString("en-US", { maximumFractionDigits: 0 }); };
  var number = function (value, digits, sign) {
    if (missing(value)) { return NONE; }
    var text = Math.abs(value).toFixed(digits === undefined ? 2 : digits);
    var zero = Number(text) === 0;
    return (value < 0 && !zero ? "−" : sign && !zero ? "+" : "") + text;
  };
  var percent = function (value, digits, sign) { return missing(value) ? NONE : number(100 * value, digits === undefined ? 1 : digits, sign) + "\u202f%"; };
  var share = function (part, whole) { return whole ? part / whole : null; };
  var between = function (one, how) { return missing(one.low) ? "" : how(one.low) + " to " + how(one.high); };
  var clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
  var exact = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  var day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
  var full = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  var moment = function (seconds) { return missing(seconds) ? NONE : full.format(new Date(1000 * seconds)); };
  var label = function (one) {
    if (!one.span) { return "earlier"; }
    var start = new Date(1000 * one.start);
    if (one.span >= 86400) { return day.format(start); }
    return day.format(start) + ", " + (one.span < 60 ? exact : clock).format(start);
  };
  var cell = function (text, more) { return make("td", Object.assign({ text: text }, more || {})); };
  var withInterval = function (text, interval, beyond) {
    return make("td", {}, [make("span", beyond ? { text: text, "class": "beyond" } : { text: text }), interval ? make("span", { text: interval, "class": "ci" }) : null]);
  };
  var table = function (id, headings, rows, left) {
    var head = make("thead", {}, [make("tr", {}, headings.map(function (text, k) {
      return make("th", (left || []).indexOf(k) >= 0 ? { text: text, scope: "col", "class": "left" } : { text: text, scope: "col" });
    }))]);
    fill(id, [head, make("tbody", {}, rows.map(function (cells) { return make("tr", {}, cells); }))]);
  };
  var region = function (id, title, tableId) {
    return [make("h3", { text: title, id: id }), make("div", { "class": "scroll", tabindex: "0", role: "region", "aria-labelledby": id }, [make("table", { id: tableId })])];
  };

  // Charts: a picture each, whose marks say their values; the tables beside them say all.
  var WIDTH = 470, LEFT = 40, BOTTOM = 22, TOP = 10;
  var frame = function (height, says, ticks, y, format) {
    var svg = draw("svg", { viewBox: "0 0 " + WIDTH + " " + height, role: "img", "aria-label": says });
    ticks.forEach(function (tick) {
      svg.append(draw("line", { x1: LEFT, x2: WIDTH, y1: y(tick), y2: y(tick), stroke: "var(--grid)" }));
      svg.append(draw("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, format(tick)));
    });
    return svg;
  };
  var mark = function (svg, tag, attributes, says) {
    var found = draw(tag, attributes);
    if (says) { found.setAttribute("aria-label", says); found.setAttribute("data-says", ""); }
    svg.append(found);
  };
  var underline = function (svg, names, x, height) {
    var last = -Infinity;
    names.forEach(function (text, k) {
      var here = x(k), width = 7 * text.length;
      if (here - width / 2 < last + 14 || here + width / 2 > WIDTH + 4) { return; }
      svg.append(draw("text", { x: here, y: height - 4, "text-anchor": "middle" }, text));
      last = here + width / 2;
    });
  };
  var shorter = function (windows) {
    var seen = "";
    return windows.map(function (one) {
      if (one.span >= 86400 || !one.span) { return label(one); }
      var start = new Date(1000 * one.start), here = day.format(start);
      var text = here === seen ? (one.span < 60 ? exact : clock).format(start) : here;
      seen = here;
      return text;
    });
  };
  var overTime = function (windows, head, i, before) {
    var height = 190, y = function (value) { return TOP + (10 - value) * (height - TOP - BOTTOM) / 10; };
    var step = (WIDTH - LEFT) / Math.max(6, windows.length);
    var x = function (k) { return LEFT + step * (k + 0.5); };
    var last = windows[windows.length - 1];
    var svg = frame(height, "Mean and middle half of " + head + " by window; the latest mean is " + number(last.means[i]) + ".", [0, 2.5, 5, 7.5, 10], y, function (tick) { return number(tick, tick % 1 ? 1 : 0); });
    if (before) {
      mark(svg, "line", { x1: LEFT, x2: WIDTH, y1: y(before.means[i]), y2: y(before.means[i]), stroke: "var(--muted)", "stroke-dasharray": "4 4" }, "reference: mean " + number(before.means[i]));
    }
    windows.forEach(function (one, k) {
      var q = one.quantiles[i], wide = Math.max(2, Math.min(22, step * 0.7));
      var says = label(one) + ": mean " + number(one.means[i]) + ", middle half " + number(q[1]) + " to " + number(q[3]) + ", " + count(one.count) + " dialogues";
      mark(svg, "line", { x1: x(k), x2: x(k), y1: y(q[0]), y2: y(q[4]), stroke: "var(--set-" + (i + 1) + ")", "stroke-opacity": 0.35, "stroke-width": Math.max(1, Math.min(2, wide / 4)) });
      mark(svg, "rect", { x: x(k) - wide / 2, width: wide, y: y(q[3]), height: Math.max(1, y(q[1]) - y(q[3])), fill: "var(--set-" + (i + 1) + ")", "fill-opacity": 0.3 }, says);
      mark(svg, "rect", { x: x(k) - wide / 2, width: wide, y: y(one.means[i]) - 1.5, height: 3, fill: "var(--set-" + (i + 1) + ")" }, says);
    });
    underline(svg, shorter(windows), x, height);
    return make("figure", {}, [make("h3", { text: head.charAt(0).toUpperCase() + head.slice(1) }), svg, make("figcaption", { text: "Bar: the middle half; thin line: the middle 90 %; stroke: the mean" + (before ? "; dashed: the reference's mean." : ".") })]);
  };
  var setsOverTime = function (windows) {
    var height = 190, y = function (value) { return TOP + (1 - value) * (height - TOP - BOTTOM); };
    var step = (WIDTH - LEFT) / Math.max(6, windows.length), x = function (k) { return LEFT + step * (k + 0.5); };
    var last = windows[windows.length - 1];
    var svg = frame(height, "Share of each set by window; latest: " + SETS.map(function (set) { return set + " " + percent(share(last.sets[set], last.count), 0); }).join(", ") + ".", [0, 0.5, 1], y, function (tick) { return percent(tick, 0); });
    windows.forEach(function (one, k) {
      var top = 0, wide = Math.max(2, Math.min(22, step * 0.8));
      SETS.forEach(function (set, s) {
        var part = share(one.sets[set], one.count);
        if (part) { mark(svg, "rect", { x: x(k) - wide / 2, width: wide, y: y(1 - top), height: Math.max(0, y(1 - top - part) - y(1 - top) - 0.7), fill: "var(--set-" + (s + 1) + ")" }, label(one) + ", " + set + ": " + percent(part) + " (" + count(one.sets[set]) + ")"); }
        top += part || 0;
      });
    });
    underline(svg, shorter(windows), x, height);
    return make("figure", {}, [make("h3", { text: "Sets" }), svg, make("figcaption", { text: "The share of each set, by the paper's rule; colours as above." })]);
  };
  var amounts = function (windows) {
    var height = 190, most = Math.max.apply(null, windows.map(function (one) { return one.count; })) || 1;
    var unit = Math.pow(10, Math.floor(Math.log10(most))), top = Math.ceil(most / unit) * unit;
    var y = function (value) { return TOP + (1 - value / top) * (height - TOP - BOTTOM); };
    var step = (WIDTH - LEFT) / Math.max(6, windows.length), x = function (k) { return LEFT + step * (k + 0.5); };
    var svg = frame(height, "Dialogues by window; the latest has " + count(windows[windows.length - 1].count) + ".", [0, top / 2, top], y, function (tick) { return tick >= 10000 ? count(tick / 1000) + "k" : top < 2 && tick % 1 ? "" : count(tick); });
    windows.forEach(function (one, k) {
      var wide = Math.max(2, Math.min(22, step * 0.8));
      mark(svg, "rect", { x: x(k) - wide / 2, width: wide, y: y(one.count), height: y(0) - y(one.count), fill: "var(--step-4)" }, label(one) + ": " + count(one.count) + " dialogues");
    });
    underline(svg, shorter(windows), x, height);
    return make("figure", {}, [make("h3", { text: "Dialogues" }), svg, make("figcaption", { text: "Dialogues that came in each window; the latest is not over." })]);
  };
  var curve = function (now, before, head, i) {
    var height = 190, bins = now.curves[i].length;
    var most = Math.max.apply(null, now.curves[i].concat(before ? before.curves[i] : [])) || 1;
    var top = Math.ceil(most * 20) / 20, y = function (value) { return TOP + (1 - value / top) * (height - TOP - BOTTOM); };
    var x = function (bin) { return LEFT + bin * (WIDTH - LEFT) / bins; };
    var svg = frame(height, "Distribution of " + head + ": median " + number(now.quantiles[i][2]) + (before ? ", in the reference " + number(before.quantiles[i][2]) : "") + ".", [0, top / 2, top], y, function (tick) { return percent(tick, 100 * tick % 1 ? 1 : 0); });
    now.curves[i].forEach(function (value, k) {
      if (value) { mark(svg, "rect", { x: x(k) + 0.5, width: x(1) - x(0) - 1, y: y(value), height: y(0) - y(value), fill: "var(--set-" + (i + 1) + ")", "fill-opacity": 0.75 }, number(10 * k / bins) + " to " + number(10 * (k + 1) / bins) + ": " + percent(value)); }
    });
    if (before) {
      var path = "M" + x(0) + " " + y(0);
      before.curves[i].forEach(function (value, k) { path += "L" + x(k) + " " + y(value) + "L" + x(k + 1) + " " + y(value); });
      mark(svg, "path", { d: path + "L" + x(bins) + " " + y(0), fill: "none", stroke: "var(--ink)", "stroke-width": 1.5 });
    }
    [0, 2, 4, 6, 8, 10].forEach(function (tick) { svg.append(draw("text", { x: x(tick * bins / 10), y: height - 4, "text-anchor": tick === 10 ? "end" : "middle" }, String(tick))); });
    return make("figure", {}, [make("h3", { text: head.charAt(0).toUpperCase() + head.slice(1) }), svg, make("figcaption", { text: before ? "Filled: the latest dialogues; line: the reference." : "The latest dialogues." })]);
  };

  // Sections, each drawn from the state; drawn anew only when what it is of changed.
  var state = null, of = "all";
  var openAlerts = function () { return state.alerts.filter(function (one) { return missing(one.ended); }); };
  var parts = {
    head: function () {
      var open = openAlerts();
      at("title").textContent = state.title || "Scores as they come in";
      document.title = (open.length ? "(" + open.length + ") " : "") + (state.title || "empathy watch");
      at("lede").textContent = !state.total ? "Waiting for the first scores." :
        count(state.total) + " dialogue" + (state.total === 1 ? "" : "s") + " counted, the latest of " + moment(state.latest) + ". " +
        (open.length ? (open.length === 1 ? "One alert is" : open.length + " alerts are") + " open." : "No alert.");
      fill("open-alerts", open.length ? [make("ul", { "class": "alert" }, open.map(function (one) {
        return make("li", {}, [sentence(one.text) + ". ", make("span", { "class": "note", text: "Since " + moment(one.began) + ", at dialogue " + count(one.dialogues) + "." })]);
      }))] : []);
    },
    tiles: function () {
      var now = state.recent, before = state.reference;
      var tile = function (title, big, sub) { return make("div", {}, [make("dt", { text: title }), make("dd", { "class": "big", text: big }), make("dd", { "class": "sub", text: sub })]); };
      var change = function (i) { return before ? number(now.means[i] - before.means[i], 2, true) + " against the reference" : now.count ? "of the latest " + count(now.count) : "none yet"; };
      var part = share(now.sets.sensibility, now.count);
      fill("tiles", [
        tile("dialogues", count(state.total), state.first ? "since " + label({ start: state.first, span: state.span }) : "none yet"),
        tile("dialogues a minute", number(state.rate, state.rate && state.rate < 10 ? 1 : 0), state.rate ? "lately" : "none in the last minute"),
        tile("mean sensibility", number(now.means[0]), change(0)),
        tile("mean rationality", number(now.means[1]), change(1)),
        tile("sensibility set", percent(part), before ? percent(share(before.sets.sensibility, before.count)) + " in the reference" : now.count ? "of the latest " + count(now.count) : "none yet"),
        tile("outside the domain", percent(share(now.outside, now.outside_known)), now.outside_known ? "of the latest " + count(now.outside_known) : "not known"),
        tile("low on both", percent(share(now.low, now.count)), count(state.all.low) + " of all"),
        tile("open alerts", count(openAlerts().length), openAlerts().length ? "see what to do" : "nothing to do")
      ]);
      fill("bar", SETS.map(function (set, k) {
        var found = make("span", { "class": "fill-" + k });
        found.style.flex = now.sets[set] + " 1 0";
        return now.sets[set] ? found : null;
      }));
      at("bar").setAttribute("aria-label", SETS.map(function (set) { return set + " " + percent(share(now.sets[set], now.count)); }).join(", "));
      fill("key", SETS.map(function (set, k) { return make("li", {}, [make("span", { "class": "dot fill-" + k }), set + " " + percent(share(now.sets[set], now.count), 0)]); }));
    },
    hints: function () {
      fill("hints", state.hints.length ? state.hints.map(function (hint) {
        var copy = make("button", { type: "button", text: "Copy" });
        copy.addEventListener("click", function () {
          var said = function (text) { copy.textContent = text; setTimeout(function () { copy.textContent = "Copy"; }, 1500); };
          if (!navigator.clipboard) { said("Select it"); return; }
          navigator.clipboard.writeText(hint.command).then(function () { said("Copied"); }, function () { said("Select it"); });
        });
        return make("div", { "class": "hint" + (hint.weight > 1 ? " urgent" : "") }, [make("p", { text: spaced(hint.text) }),
          hint.command ? make("div", { "class": "command" }, [command(hint.command), copy]) : null]);
      }) : [make("p", { "class": "fine", text: state.total ? "Nothing: every figure is within its limits." : "Nothing yet." })]);
    },
    windows: function () {
      var all = Object.keys(state.windows).map(function (key) { return state.windows[key]; }).filter(function (one) { return one.count; });
      all.sort(function (a, b) { return (a.span ? a.start : -1) - (b.span ? b.start : -1); });
      var shown = all.slice(-48), span = state.span;
      at("time-note").textContent = "A window has " + (span % 3600 ? span % 60 ? count(span) + " seconds" : count(span / 60) + (span === 60 ? " minute" : " minutes") : count(span / 3600) + (span === 3600 ? " hour" : " hours")) + "; older ones are joined to days.";
      fill("time-charts", shown.length ? [overTime(shown, HEADS[0], 0, state.reference), overTime(shown, HEADS[1], 1, state.reference), setsOverTime(shown), amounts(shown)] : [make("p", { "class": "needs", text: "Nothing came in yet." })]);
      var distance = function (one, i) {
        var found = one.ks && one.ks[i];
        return found ? withInterval(number(found.value), between(found, number), false) : cell(NONE);
      };
      table("table-windows", ["window", "dialogues", "mean S", "median S", "mean R", "median R"].concat(SETS, ["low on both", "outside", "KS of S", "KS of R"]), all.slice().reverse().map(function (one) {
        return [make("th", { text: label(one), scope: "row" }), cell(count(one.count)), cell(number(one.means[0])), cell(number(one.quantiles[0][2])), cell(number(one.means[1])), cell(number(one.quantiles[1][2]))].concat(
          SETS.map(function (set) { return cell(percent(share(one.sets[set], one.count))); }),
          [cell(percent(share(one.low, one.count))), cell(percent(share(one.outside, one.outside_known))), distance(one, 0), distance(one, 1)]);
      }));
    },
    scores: function () {
      var now = state.recent, before = state.reference;
      at("scores-note").textContent = now.count ? "The latest " + count(now.count) + " dialogues" + (before ? ", beside " + before.name + " as the reference." : ".") : "";
      fill("score-charts", now.count ? [curve(now, before, HEADS[0], 0), curve(now, before, HEADS[1], 1)] : []);
      var rows = [];
      [["latest", now], ["all", state.all], ["reference", before]].forEach(function (entry) {
        if (!entry[1] || !entry[1].count) { return; }
        HEADS.forEach(function (head, i) {
          var one = entry[1];
          rows.push([make("th", { text: i ? "" : entry[0] + " (" + count(one.count) + ")", scope: "row" }), cell(head, { "class": "left" }), cell(number(one.means[i]))].concat(one.quantiles[i].map(function (value) { return cell(number(value)); })));
        });
      });
      table("table-quantiles", ["dialogues", "score", "mean", "5 %", "25 %", "median", "75 %", "95 %"], rows, [1]);
    },
    drift: function () {
      var drift = state.drift;
      if (!drift) {
        var wait = state.gathering;
        fill("drift-body", [make("p", { "class": "needs", text: wait ? "Needs more dialogues: the first " + count(wait[1]) + " are what drift will be against, and " + count(wait[0]) + " are here." : "Needs dialogues." })]);
        return;
      }
      var limits = {};
      state.findings.forEach(function (one) { limits[one.name] = one.limit; });
      var reading = function (value) { return value < 0.1 ? "stable" : value <= 0.25 ? "some shift" : "a shift to look into"; };
      fill("drift-body", [make("p", { "class": "note", text: "The latest " + count(drift.of) + " dialogues against " + state.reference.name + " (" + count(state.reference.count) + "). KS is the largest distance between the two distributions of a score; PSI sums up how differently it falls into the reference's tenths: below 0.1 is stable by custom, above 0.25 a shift to look into." })].concat(
        region("cap-drift", "Distributions", "table-drift"), region("cap-shares", "Shares", "table-shares")));
      table("table-drift", ["score", "mean", "KS", "limit", "PSI", "reading"], HEADS.map(function (head) {
        var one = drift.heads[head];
        return [make("th", { text: head, scope: "row" }), withInterval(number(one.mean.value, 2, true), between(one.mean, function (value) { return number(value, 2, true); })),
          withInterval(number(one.ks.value), between(one.ks, number), one.ks.low > limits["drift " + head]), cell(number(limits["drift " + head])),
          withInterval(number(one.psi.value), between(one.psi, number), one.psi.low > 0.25), cell(reading(one.psi.value), { "class": "left" })];
      }), [5]);
      var points = function (value) { return number(100 * value, 1, true); };
      table("table-shares", ["share", "latest", "reference", "change, in points"], Object.keys(drift.shares).map(function (key) {
        var one = drift.shares[key], side = function (part) {
          return key === "low" ? share(part.low, part.count) : key === "outside" ? share(part.outside, part.outside_known) : share(part.sets[key], part.count);
        };
        var limit = limits["set " + key];
        var title = key === "low" ? "low on both" : key === "outside" ? "outside the domain" : key + " set";
        return [make("th", { text: title, scope: "row" }), cell(percent(side(state.reference) + one.value)), cell(percent(side(state.reference))),
          withInterval(points(one.value), between(one, points), limit && (one.low > limit || one.high < -limit))];
      }));
    },
    categories: function () {
      var names = Object.keys(state.categories).filter(function (key) { return state.categories[key][of].count; });
      names.sort(function (a, b) { return state.categories[b][of].count - state.categories[a][of].count; });
      var moved = names.some(function (key) { return state.categories[key].moved; });
      table("table-categories", ["category", "dialogues", "mean S", "mean R"].concat(SETS, ["low on both", "outside"], moved ? ["S moved", "R moved"] : []), names.map(function (key) {
        var one = state.categories[key][of], change = state.categories[key].moved;
        return [make("th", { text: key, scope: "row" }), cell(count(one.count)), cell(number(one.means[0])), cell(number(one.means[1]))].concat(
          SETS.map(function (set) { return cell(percent(share(one.sets[set], one.count))); }), [cell(percent(share(one.low, one.count))), cell(percent(share(one.outside, one.outside_known)))],
          moved ? [0, 1].map(function (i) {
            var found = change && change[i];
            return found && !missing(found.value) ? withInterval(number(found.value, 2, true), between(found, function (value) { return number(value, 2, true); }), found.low > 0 || found.high < 0) : cell(NONE);
          }) : []);
      }));
      at("categories-note").textContent = moved ? "Moved: by how much the mean of the latest " + count(state.recent.count) + " dialogues is larger than the reference's, in each category that both have. These intervals hold all together." : "";
    },
    dialogues: function () {
      var texts = state.moved.concat(state.lows).some(function (one) { return one.text; });
      var body = [];
      if (state.moved.length) { body = body.concat(region("cap-moved", "Other scores than in the reference", "table-moved")); }
      if (state.lows.length) { body = body.concat(region("cap-lows", "The latest that are low on both scores", "table-lows")); }
      fill("dialogues-body", body.length ? body : [make("p", { "class": "needs", text: "None moved against the reference, and none is low on both scores." })]);
      var common = function (one) { return [cell(one.category || NONE, { "class": "left" })].concat(texts ? [cell(one.text || NONE, { "class": "left", dir: "auto" })] : []); };
      var arrow = function (one, i) { return cell(number(one.before[i]) + " → " + number(one.scores[i])); };
      if (state.moved.length) {
        table("table-moved", ["id", "category"].concat(texts ? ["text"] : [], ["sensibility", "rationality", "set"]), state.moved.map(function (one) {
          return [make("th", { scope: "row", text: one.id })].concat(common(one), [arrow(one, 0), arrow(one, 1), cell(one.set)]);
        }), texts ? [1, 2] : [1]);
      }
      if (state.lows.length) {
        table("table-lows", ["id", "category"].concat(texts ? ["text"] : [], ["sensibility", "rationality", "time"]), state.lows.map(function (one) {
          return [make("th", { scope: "row", text: one.id })].concat(common(one), [cell(number(one.scores[0])), cell(number(one.scores[1])), cell(moment(one.time))]);
        }), texts ? [1, 2] : [1]);
      }
    },
    alerts: function () {
      fill("alerts-body", state.alerts.length ? [make("div", { "class": "scroll", tabindex: "0", role: "region", "aria-label": "Alerts" }, [make("table", { id: "table-alerts" })])] : [make("p", { "class": "fine", text: "None so far." })]);
      if (!state.alerts.length) { return; }
      table("table-alerts", ["began", "ended", "what", "figure", "limit", "at dialogue"], state.alerts.map(function (one) {
        return [make("th", { text: moment(one.began), scope: "row" }), cell(missing(one.ended) ? "open" : moment(one.ended), missing(one.ended) ? { "class": "beyond" } : {}), cell(sentence(one.text), { "class": "left wrap" }), withInterval(number(one.value), between(one, number)), cell(number(one.limit)), cell(count(one.dialogues))];
      }), [2]);
    },
    sources: function () {
      fill("sources-body", [make("ul", {}, state.sources.map(function (text) { return make("li", {}, [make("code", { text: text })]); }))].concat(state.problems.map(function (one) {
        return make("p", { "class": "warn", text: one.source + ": " + one.text + "." });
      })));
    }
  };
  var NEEDS = {
    head: ["title", "total", "latest", "alerts"], tiles: ["recent", "reference", "all", "total", "rate", "alerts"], hints: ["hints"],
    windows: ["windows", "reference"], scores: ["recent", "reference", "all"], drift: ["drift", "gathering", "reference"],
    categories: ["categories"], dialogues: ["moved", "lows"], alerts: ["alerts"], sources: ["sources", "problems"]
  };
  var show = function (changed) {
    Object.keys(parts).forEach(function (part) {
      if (!changed || NEEDS[part].some(function (key) { return key in changed; })) { parts[part](); }
    });
  };
  at("choice").addEventListener("click", function (event) {
    if (!event.target.dataset.of) { return; }
    of = event.target.dataset.of;
    Array.prototype.forEach.call(at("choice").children, function (one) { one.setAttribute("aria-pressed", String(one.dataset.of === of)); });
    if (state) { parts.categories(); }
  });

  var connection = function (text, kind) { at("connection").textContent = text; at("connection").className = "connection " + kind; };
  var listen = function () {
    var events = new EventSource("dashboard/events");
    events.addEventListener("state", function (event) { state = JSON.parse(event.data); show(null); connection("live", "on"); });
    events.addEventListener("change", function (event) {
      var changed = JSON.parse(event.data);
      Object.keys(changed).forEach(function (key) {
        if (key !== "windows" && key !== "categories") { state[key] = changed[key]; return; }
        Object.keys(changed[key]).forEach(function (entry) {
          if (changed[key][entry] === null) { delete state[key][entry]; } else { state[key][entry] = changed[key][entry]; }
        });
      });
      show(changed);
    });
    events.onerror = function () {
      connection("connection lost, trying again", "off");
      if (events.readyState === 2) { events.close(); setTimeout(listen, 3000); }
    };
  };
  listen();

  var tip = at("tip");
  document.addEventListener("pointerover", function (event) {
    var found = event.target.closest && event.target.closest("[data-says]");
    tip.hidden = !found;
    if (found) { tip.textContent = found.getAttribute("aria-label"); }
  });
  document.addEventListener("pointermove", function (event) {
    if (tip.hidden) { return; }
    tip.style.left = Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 12) + "px";
  });
})();
