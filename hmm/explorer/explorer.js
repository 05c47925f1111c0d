"use strict";
// The explorer: one object of what is chosen, drawn anew by `light` after every choice.
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const {runs, sizes, colours, inks} = content;
  const anyTime = runs.some((r) => r.convergence !== null);
  const HATCHES = [" ", "/", ".", "\\", "-", "x", "|", "o", "+", "v", "@", "*"];
  const $ = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => value === null ? "never" : String(Number(value.toPrecision(5)));
  const chosen = {size: sizes.findIndex((s) => s.size === content.drawn), lit: null, why: "", key: ""};
  const size = () => sizes[chosen.size];
  const given = (state) => size().size === content.chosen ? content.names[state] : undefined;
  const name = (state) => given(state) ? `${state} ${given(state)}` : `state ${state}`;
  const glance = {lit: null, key: ""};  // what the mouse is on is lit for as long as it is
  const lights = () => glance.lit ?? chosen.lit;
  const lit = (run) => lights() === null || lights().has(run);

  const decoded = content.curves.map(({values}) => {
    const bytes = Uint8Array.from(atob(values), (c) => c.charCodeAt(0));
    return new Float32Array(bytes.buffer);  // little-endian, as every browser's machine is
  });
  const width = runs.length ? (decoded[0]?.length ?? 0) / runs.length : 0;
  const timesOf = (run) => content.times[Math.min(run, content.times.length - 1)];

  // Stays of a run: state, first and last record, and their times; a stay ends where the next begins.
  function stays(run) {
    const times = timesOf(run);
    let at = 0;
    return size().stays[run].map(([state, length]) => {
      const first = at, last = at + length;
      at = last;
      return {state, run, first, last, from: times[first], to: times[Math.min(last, times.length - 1)]};
    });
  }
  const path = (run) => size().stays[run].map(([state]) => state);
  const takes = (run, from, to) => path(run).some((s, i, all) => s === from && all[i + 1] === to);

  // Choices. The same choice made twice lights all runs again.
  const those = (holds) => new Set(runs.map((_, run) => run).filter(holds));
  function choose(key, why, holds) {
    glance.lit = null;
    const again = chosen.key === key;
    chosen.key = again ? "" : key;
    chosen.why = again ? "" : why;
    chosen.lit = again ? null : those(holds);
    if (chosen.lit?.size === 1) showRun([...chosen.lit][0]);
    light();
  }
  const visits = (state) => (r) => path(r).includes(state);
  const goes = (e) => (r) => takes(r, e.from, e.to);
  const chooseState = (state) => choose(`s${state}`, `visit ${name(state)}`, visits(state));
  const chooseEdge = (e) => choose(`e${e.from}-${e.to}`, `go from ${e.from} to ${e.to}`, goes(e));
  function glanceAt(key, holds) {
    if (glance.key === key) return;
    Object.assign(glance, {key, lit: holds && those(holds)});
    light();
  }
  const chooseRun = (run) => choose(`r${run}`, `is run ${runs[run].name}`, (r) => r === run);

  // Plots
  const {Plotting, ColumnDataSource, HoverTool} = Bokeh;
  const plots = [];
  function plot(height, options = {}) {
    const p = Plotting.figure({
      height, sizing_mode: "stretch_width", tools: "tap,box_zoom,reset,save", toolbar_location: "above",
      background_fill_color: null, border_fill_color: null, outline_line_color: null, min_border_right: 12,
      ...options,
    });
    p.toolbar.active_drag = null;  // a finger scrolls the page
    p.toolbar.logo = null;
    plots.push(p);
    return p;
  }
  // A glyph looks the same chosen or not: what is lit is said by its columns. A tap hands its index on.
  function tapped(renderer, source, act) {
    renderer.selection_glyph = renderer.nonselection_glyph = renderer.muted_glyph = null;
    source.selected.properties.indices.change.connect(() => {
      const [index] = source.selected.indices;
      if (index === undefined) return;
      source.selected.indices = [];
      act(index);
    });
  }
  function hover(p, renderer, tooltips, options = {}) {
    p.add_tools(new HoverTool({renderers: [renderer], tooltips, ...options}));
  }

  const map = plot(280, {x_range: [-0.2, 7.2], y_range: [0, 3]});
  const data = {edges: new ColumnDataSource(), heads: new ColumnDataSource(), states: new ColumnDataSource(),
                stays: new ColumnDataSource(), marks: new ColumnDataSource(), lines: new ColumnDataSource()};
  const field = (name) => ({field: name});

  function drawMap() {
    const lines = map.multi_line({xs: field("xs"), ys: field("ys"), line_width: field("width"),
      line_color: field("colour"), line_alpha: field("alpha"), source: data.edges});
    map.scatter({x: field("x"), y: field("y"), angle: field("angle"), marker: "triangle", size: field("size"),
      fill_color: field("colour"), line_color: null, fill_alpha: field("alpha"), source: data.heads});
    const discs = map.scatter({x: field("x"), y: field("y"), size: field("size"), marker: "circle",
      fill_color: field("colour"), fill_alpha: field("alpha"), line_color: field("rim"), line_width: field("rim_width"),
      line_dash: field("dash"), hatch_pattern: field("hatch"), hatch_color: field("ink"), hatch_alpha: 0.35,
      hatch_scale: 9, source: data.states});
    map.text({x: field("x"), y: field("y"), text: field("number"), text_align: "center", text_baseline: "middle",
      text_color: field("ink"), text_font_style: "bold", text_font_size: "15px", background_fill_color: field("colour"),
      padding: 2, border_radius: 4, source: data.states});
    map.text({x: field("x"), y: field("y"), y_offset: field("below"), text: field("caption"), text_align: "center",
      text_baseline: "top", text_color: field("caption_colour"), text_font_size: "11px", source: data.states});
    hover(map, discs, [["state", "@label"], ["share of records", "@share"], ["runs", "@runs"]]);
    hover(map, lines, [["arrow", "@label"], ["runs", "@runs"], ["change", "@changes"]], {line_policy: "interp"});
    tapped(discs, data.states, (i) => chooseState(data.states.data.state[i]));
    tapped(lines, data.edges, (i) => chooseEdge(size().edges[i]));
    const pointed = () => {
      const [disc] = data.states.inspected.indices, [line] = data.edges.inspected.indices;
      const state = data.states.data.state[disc], edge = size().edges[line];
      if (state !== undefined) glanceAt(`s${state}`, visits(state));
      else if (edge) glanceAt(`e${edge.from}-${edge.to}`, goes(edge));
      else glanceAt("", null);
    };
    for (const source of [data.states, data.edges]) source.inspect.connect(pointed);
    for (const axes of [map.xaxis, map.yaxis, map.xgrid, map.ygrid]) axes.visible = false;
    new ResizeObserver(lightMap).observe($("ex-map"));
  }
  function turnHeads() {
    const {xs, ys} = data.edges.data;
    const across = $("ex-map").clientWidth / (map.x_range.end - map.x_range.start);
    const up = map.height / (map.y_range.end - map.y_range.start);
    const angle = xs.map((x, i) => {
      const m = Math.floor(x.length * 0.6);
      return Math.atan2((ys[i][m + 1] - ys[i][m]) * up, (x[m + 1] - x[m]) * across) - Math.PI / 2;
    });
    data.heads.data = {...data.heads.data, angle};
  }
  function lightMap() {
    const {states, edges, runs: total} = size();
    const taken = (e) => lights() === null || [...lights()].some((r) => takes(r, e.from, e.to));
    const seen = (k) => lights() === null || [...lights()].some((r) => path(r).includes(k));
    const most = Math.max(...states.map((s) => s.share));
    const here = states.map((s, k) => ({...s, k})).filter((s) => s.x !== null);
    const room = $("ex-map").clientWidth, narrow = room / here.length < 90;
    const big = Math.min(64, 0.6 * room / Math.max(here.length, 4));
    const sizeOf = (s) => Math.max(20, big * Math.sqrt(s.share / most));
    data.states.data = {
      x: here.map((s) => s.x), y: here.map((s) => s.y), state: here.map((s) => s.k),
      number: here.map((s) => String(s.k)), label: here.map((s) => name(s.k)), size: here.map(sizeOf),
      below: here.map((s) => sizeOf(s) / 2 + 4), colour: here.map((s) => colours[s.k]),
      ink: here.map((s) => inks[s.k]), hatch: here.map((s) => HATCHES[s.k % HATCHES.length]),
      alpha: here.map((s) => seen(s.k) ? 1 : 0.3), rim: here.map(() => css("--ink")),
      rim_width: here.map((s) => s.mark ? 2.5 : chosen.key === `s${s.k}` ? 4 : 1),
      dash: here.map((s) => s.mark === "detour" ? [5, 3] : []), caption_colour: here.map(() => css("--ink")),
      share: here.map((s) => `${(100 * s.share).toPrecision(2)} %`), runs: here.map((s) => `${s.runs} of ${total}`),
      caption: here.map((s) => [given(s.k), narrow ? "" : `${(100 * s.share).toPrecision(2)} % of time`,
        narrow ? `${s.runs}/${total}` : `${s.runs} of ${total} runs`,
        s.mark].filter(Boolean).join("\n")),
    };
    const middle = (points) => points[Math.floor(points.length * 0.6)];
    const shade = edges.map((e) => css(lights() !== null && taken(e) ? "--accent" : "--grey"));
    const alpha = edges.map((e) => taken(e) ? 1 : 0.25);
    data.edges.data = {
      xs: edges.map((e) => e.xs), ys: edges.map((e) => e.ys), width: edges.map((e) => 1 + 6 * e.runs / total),
      colour: shade, alpha, label: edges.map((e) => `${e.from} \u2192 ${e.to}`),
      runs: edges.map((e) => `${e.runs} of ${total}`), changes: edges.map((e) => e.changes || "\u2013"),
    };
    data.heads.data = {
      x: edges.map((e) => middle(e.xs)), y: edges.map((e) => middle(e.ys)), angle: edges.map(() => 0),
      size: edges.map((e) => 10 + 8 * e.runs / total), colour: shade, alpha,
    };
    const ys = [...here.map((s) => s.y), ...edges.flatMap((e) => e.ys)];
    const inner = map.height - 35, below = 85, above = 45;  // pixels: the toolbar, captions, discs
    const low = Math.min(...ys), span = Math.max(1, (Math.max(...ys) - low) / (1 - (below + above) / inner));
    map.y_range.setv({start: low - span * below / inner, end: low + span * (1 - below / inner)});
    turnHeads();
  }

  const end = Math.max(...content.times.map((t) => t[t.length - 1]));
  const start = Math.min(...content.times.map((t) => t[0]));
  const time = new Bokeh.Range1d({start, end: end + (end - start) * 0.01});
  const raster = plot(Math.min(620, Math.max(200, 80 + 13 * runs.length)),
    {x_range: time, y_range: [runs.length - 0.4, -0.6]});
  function drawRaster() {
    const quads = raster.quad({left: field("from"), right: field("to"), top: field("top"), bottom: field("bottom"),
      fill_color: field("colour"), line_color: null, fill_alpha: field("alpha"), hatch_pattern: field("hatch"),
      hatch_color: field("ink"), hatch_alpha: field("hatch_alpha"), hatch_scale: 8, source: data.stays});
    const marks = raster.scatter({x: field("x"), y: field("y"), marker: "diamond", size: 9, fill_color: "white",
      line_color: "black", fill_alpha: field("alpha"), line_alpha: field("alpha"), source: data.marks});
    hover(raster, quads, [["run", "@name"], ["state", "@label"], [content.unit, "@from to @to"]]);
    hover(raster, marks, [["run", "@name"], ["converges at", "@x"]]);
    tapped(quads, data.stays, (i) => chooseRun(data.stays.data.run[i]));
    tapped(marks, data.marks, (i) => chooseRun(data.marks.data.run[i]));
    raster.xaxis.axis_label = content.unit;
    raster.ygrid.visible = false;
    const every = Math.ceil(runs.length / 30);
    const ticks = runs.map((_, run) => run).filter((run) => run % every === 0);
    raster.yaxis.ticker = new Bokeh.FixedTicker({ticks, minor_ticks: []});
    const clip = (text) => text.length > 12 ? `${text.slice(0, 5)}\u2026${text.slice(-6)}` : text;
    raster.yaxis.major_label_overrides = new Map(ticks.map((run) => [run, clip(runs[run].name)]));
  }
  function lightRaster() {
    const all = runs.flatMap((_, run) => stays(run));
    data.stays.data = {
      from: all.map((s) => s.from), to: all.map((s) => s.to), top: all.map((s) => s.run - 0.46),
      bottom: all.map((s) => s.run + 0.46), colour: all.map((s) => colours[s.state]), run: all.map((s) => s.run),
      alpha: all.map((s) => lit(s.run) ? 1 : 0.15), hatch_alpha: all.map((s) => lit(s.run) ? 0.35 : 0.05),
      hatch: all.map((s) => HATCHES[s.state % HATCHES.length]), ink: all.map((s) => inks[s.state]),
      name: all.map((s) => runs[s.run].name), label: all.map((s) => name(s.state)),
    };
    const ends = runs.map((r, run) => ({...r, run})).filter((r) => r.convergence !== null);
    data.marks.data = {x: ends.map((r) => r.convergence), y: ends.map((r) => r.run), run: ends.map((r) => r.run),
      name: ends.map((r) => r.name), alpha: ends.map((r) => lit(r.run) ? 1 : 0.2)};
  }

  const curves = plot(320, {x_range: time});
  function drawCurves() {
    const lines = curves.multi_line({xs: field("xs"), ys: field("ys"), line_color: field("colour"),
      line_width: field("width"), line_alpha: field("alpha"), line_dash: field("dash"), source: data.lines});
    hover(curves, lines, [["run", "@name"], ["state", "@label"]], {line_policy: "nearest"});
    tapped(lines, data.lines, (i) => chooseRun(data.lines.data.run[i]));
    curves.xaxis.axis_label = content.unit;
  }
  function points(curve, run, stay) {
    const {mean, std} = content.curves[curve], scaled = $("ex-scaled").checked, xs = [], ys = [];
    const times = timesOf(run);
    const last = Math.min(stay.last + content.stride - 1, width * content.stride - 1, times.length - 1);
    for (let at = Math.ceil(stay.first / content.stride) * content.stride; at <= last; at += content.stride) {
      const value = decoded[curve][run * width + at / content.stride];
      xs.push(times[at]);
      ys.push(scaled ? (value - mean) / std : value);
    }
    return {xs, ys};
  }
  function lightCurves() {
    const curve = Number($("ex-curve").value);
    if (!content.curves.length) return;
    const all = runs.flatMap((_, run) => stays(run)).sort((a, b) => lit(a.run) - lit(b.run));
    const drawn = all.map((stay) => points(curve, stay.run, stay));
    const few = lights() !== null;
    data.lines.data = {
      xs: drawn.map((d) => d.xs), ys: drawn.map((d) => d.ys), colour: all.map((s) => colours[s.state]),
      run: all.map((s) => s.run), name: all.map((s) => runs[s.run].name), label: all.map((s) => name(s.state)),
      width: all.map((s) => few && lit(s.run) ? 2.5 : 1.3), alpha: all.map((s) => lit(s.run) ? 1 : 0.1),
      dash: all.map((s) => [[], [6, 2], [2, 2], [8, 2, 2, 2]][s.state % 4]),
    };
  }

  // One run: facts, stays, and a small picture of each curve.
  function showRun(run) {
    $("ex-run").value = run;
    const {name: called, convergence, note, records} = runs[run], own = stays(run);
    const said = own.map((s) => `${name(s.state)} from ${content.unit} ${short(s.from)}`).join(", then ");
    const facts = document.createElement("p");
    const when = `; converges: ${short(convergence)}${convergence === null ? "" : ` (${content.unit})`}`;
    facts.textContent = `Run ${called}: ${said}. ${records} records${anyTime ? when : ""}.${note ? ` ${note}.` : ""}`;
    const grid = document.createElement("div");
    grid.className = "sparks";
    content.curves.forEach((curve, index) => grid.append(spark(index, run, own)));
    $("ex-one").replaceChildren(facts, grid);
  }
  function spark(curve, run, own) {
    const pieces = own.map((stay) => ({...points(curve, run, stay), state: stay.state}));
    const flat = pieces.flatMap((p) => p.ys).filter(Number.isFinite);
    const low = Math.min(...flat), high = Math.max(...flat), last = flat[flat.length - 1];
    const x = (t) => 2 + 116 * (t - start) / (end - start || 1);
    const y = (v) => 38 - 36 * (v - low) / (high - low || 1);
    const figure = document.createElement("figure");
    const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg");
    svg.setAttribute("viewBox", "0 0 120 40");
    svg.setAttribute("preserveAspectRatio", "none");
    for (const {xs, ys, state} of pieces) {
      const line = document.createElementNS(ns, "polyline");
      line.setAttribute("points", xs.map((t, i) => Number.isFinite(ys[i]) ? `${x(t)},${y(ys[i])}` : "").join(" "));
      line.setAttribute("style", `fill:none;stroke:${colours[state]};stroke-width:2;vector-effect:non-scaling-stroke`);
      svg.append(line);
    }
    const caption = document.createElement("figcaption");
    caption.textContent = `${content.curves[curve].name}: ${flat.length ? short(last) : "not recorded"}`;
    figure.append(svg, caption);
    return figure;
  }

  if (!anyTime) $("ex-timed").remove();

  // The table of runs
  const COLUMNS = [["run", (r) => runs[r].name],
    ...(anyTime ? [[`converges (${content.unit})`, (r) => runs[r].convergence]] : []),
    ["path", (r) => path(r).join(" ")], ["changes of state", (r) => path(r).length - 1],
    ["records", (r) => runs[r].records], ["note", (r) => runs[r].note]];
  const order = {column: anyTime ? 1 : 0, up: true};
  function sorted() {
    const value = COLUMNS[order.column][1], sign = order.up ? 1 : -1;
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), undefined, {numeric: true});
    return runs.map((_, run) => run).sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * compare(x, y);
    });
  }
  function lightTable() {
    const wanted = $("ex-filter").value.toLowerCase();
    const rows = sorted().filter((run) => COLUMNS.some(([, value]) => String(value(run)).toLowerCase().includes(wanted)));
    $("ex-table").tBodies[0].replaceChildren(...rows.map((run) => {
      const row = document.createElement("tr");
      row.className = lights() === null ? "" : lit(run) ? "lit" : "dim";
      row.dataset.run = run;
      for (const [, value] of COLUMNS) {
        const shown = value(run);
        row.insertCell().textContent = shown === null ? "never" : typeof shown === "number" ? short(shown) : shown;
      }
      row.addEventListener("click", () => chooseRun(run));
      return row;
    }));
    $("ex-table").tHead.rows[0].replaceChildren(...COLUMNS.map(([label], column) => {
      const head = document.createElement("th"), button = document.createElement("button");
      const mine = order.column === column;
      button.textContent = label + (mine ? (order.up ? " \u25b2" : " \u25bc") : "");
      if (mine) head.ariaSort = order.up ? "ascending" : "descending";
      button.addEventListener("click", () => {
        order.up = mine ? !order.up : true;
        order.column = column;
        lightTable();
      });
      head.append(button);
      return head;
    }));
  }

  // Tables for other programs
  const TABLES = {
    runs: () => [["run", "records", "path", "note", "convergence"], ...runs.map((r, run) =>
      [r.name, r.records, path(run).join(" "), r.note, r.convergence ?? ""])],
    states: () => [["run", content.unit, "state"], ...runs.flatMap((r, run) => stays(run).flatMap((s) =>
      timesOf(run).slice(s.first, s.last).map((t) => [r.name, t, s.state])))],
    edges: () => [["from", "to", "runs", "probability", "changes"],
      ...size().edges.map((e) => [e.from, e.to, e.runs, e.probability ?? "", e.changes])],
  };
  function csv(table) {
    const cell = (value) => /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;
    return TABLES[table]().map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }

  function chips() {
    const chip = (label, key, act, colour) => {
      const button = document.createElement("button");
      button.type = "button";
      if (colour) {
        const dot = document.createElement("i");
        dot.style.background = colour;
        button.append(dot);
      }
      button.append(label);
      button.setAttribute("aria-pressed", String(chosen.key === key));
      button.addEventListener("click", act);
      return button;
    };
    $("ex-states").replaceChildren(...size().states.map((s, k) => chip(`${name(k)} (${s.runs})`, `s${k}`,
      () => chooseState(k), colours[k])));
    $("ex-edges").replaceChildren(...size().edges.map((e) => chip(`${e.from} \u2192 ${e.to} (${e.runs})`,
      `e${e.from}-${e.to}`, () => chooseEdge(e))));
  }

  function light() {
    const {size: count, reason} = size();
    $("ex-count").textContent = `${count}${count === content.chosen ? " (chosen)" : ""}`;
    $("ex-said").textContent = reason;
    $("ex-chosen").textContent = chosen.lit === null ? "" : `${chosen.lit.size} of ${runs.length} runs ${chosen.why}.`;
    for (const draw of [lightMap, lightRaster, lightCurves, lightTable, chips]) draw();
  }

  // Light and dark: what CSS says of ink and paper holds in the plots.
  function paint() {
    const ink = css("--ink"), pale = css("--pale");
    for (const p of plots) {
      for (const axes of [p.xaxis, p.yaxis]) {
        for (const key of ["axis_label_text_color", "major_label_text_color", "axis_line_color",
          "major_tick_line_color", "minor_tick_line_color"]) axes[key] = ink;
        axes.major_label_text_font_size = axes.axis_label_text_font_size = "12px";
      }
      for (const grid of [p.xgrid, p.ygrid]) grid.grid_line_color = pale;
    }
    light();
  }

  async function begin() {
    $("ex-size").max = sizes.length - 1;
    $("ex-size").value = chosen.size;
    $("ex-size").parentElement.parentElement.hidden = sizes.length < 2;
    $("ex-sampled").textContent = content.sampled ?? "";
    const option = (label, value) => new Option(label, value);
    $("ex-curve").replaceChildren(...content.curves.map((c, i) => option(c.name, i)));
    $("ex-run").replaceChildren(...runs.map((r, i) => option(r.name, i)));
    $("ex-size").addEventListener("input", () => {
      Object.assign(chosen, {size: Number($("ex-size").value), lit: null, key: "", why: ""});
      light();
      showRun(Number($("ex-run").value));
    });
    $("ex-curve").addEventListener("change", lightCurves);
    $("ex-scaled").addEventListener("change", () => { lightCurves(); showRun(Number($("ex-run").value)); });
    $("ex-run").addEventListener("change", () => chooseRun(Number($("ex-run").value)));
    $("ex-filter").addEventListener("input", lightTable);
    $("ex-clear").addEventListener("click", () => { Object.assign(chosen, {lit: null, key: "", why: ""}); light(); });
    for (const button of document.querySelectorAll("[data-csv]")) {
      button.addEventListener("click", () => download(csv(button.dataset.csv), `${button.dataset.csv}.csv`, "text/csv"));
    }
    document.documentElement.classList.add("scripted");  // shows the explorer, and with it its width
    drawMap();
    drawRaster();
    drawCurves();
    paint();
    if (runs.length) showRun(0);
    const shown = new Bokeh.Document();  // one, for two plots have the same time
    for (const p of plots) shown.add_root(p);
    await Bokeh.embed.add_document_standalone(shown, document.body, [$("ex-map"), $("ex-raster"), $("ex-curves")]);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    const fold = () => document.querySelectorAll("details.static").forEach((same) => { same.open = false; });
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", fold);
    else fold();
    window.explorer = {content, chosen, glance, data, csv};  // for tests, and for readers who want more
  }
  function download(text, filename, type) {
    const link = Object.assign(document.createElement("a"), {download: filename});
    link.href = URL.createObjectURL(new Blob([text], {type}));
    link.click();
    URL.revokeObjectURL(link.href);
  }
  begin().catch((error) => {
    document.documentElement.classList.remove("scripted");  // the figures stay
    throw error;
  });
})();
