"""A map to explore in a browser: what goes into the page, and the page's script.

`content.Explored` is made of a map's parts, `content.to_content` is the JSON that the script gets,
and `embed.explorer` the HTML with everything in it. Bokeh draws (its script is inlined as the
package ships it; its Python side is not imported), the rest is `explorer.js`.
"""
